"""What a checkpoint folder says without its pair being built: no tensor, so that who checks a key need not wait for torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from watermark.config import AnyConfig, parse_config
from watermark.errors import CheckpointError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def read_config(folder: Path) -> AnyConfig:
    """The configuration of the checkpoint in `folder`, or CheckpointError."""
    path = folder / CONFIG
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"Cannot read {path}: {getattr(error, 'strerror', None) or 'it is not text'}.") from None
    return parse_config(text, str(path))


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights in a checkpoint folder, to which a calibration belongs. Raises CheckpointError."""
    try:
        with (folder / WEIGHTS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"Cannot read {folder / WEIGHTS}: {error.strerror}.") from None
