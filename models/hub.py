"""Base models by Hugging Face id: fetched once into the hub's own cache, then read like any folder."""

from __future__ import annotations

import sys
from pathlib import Path

from models.transformers_noise import quiet
from watermark.errors import BaseModelError

PLAIN_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]
SAFETENSORS = ["*.safetensors"]
PICKLED = ["pytorch_model*.bin"]
"""Fetched only where a repository has nothing better; transformers reads them without running code from them."""


def fetch(model_id: str, *, progress: bool) -> Path:
    """The local folder of a hub model. Raises BaseModelError: no such model, no access, or the hub cannot be reached."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    silence = not (progress and sys.stderr.isatty()) and not are_progress_bars_disabled()
    if silence:
        disable_progress_bars()
    try:
        with quiet():
            folder = _snapshot(model_id, PLAIN_FILES + SAFETENSORS)
            return folder if any(folder.glob(SAFETENSORS[0])) else _snapshot(model_id, PLAIN_FILES + PICKLED)
    finally:
        if silence:
            enable_progress_bars()


def _snapshot(model_id: str, patterns: list[str]) -> Path:
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model_id, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except hub.HFValidationError as error:
        raise BaseModelError(f"{model_id!r} is no Hugging Face id: {error}") from error
    except hub.GatedRepoError as error:
        raise BaseModelError(
            f"Hugging Face model {model_id!r} asks for an agreement first. Accept it on the model's page, then run: hf auth login"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise BaseModelError(
            f"Hugging Face has no model {model_id!r} that you may read. Check the id; for a private one run: hf auth login"
        ) from error
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, hub.HfHubHTTPError, OSError) as error:
        raise BaseModelError(
            f"Hugging Face model {model_id!r} is not in the local cache and the hub cannot be reached. "
            "Connect to the network (and unset HF_HUB_OFFLINE), or give the path of a local folder."
        ) from error
