"""Watermark checkpoints: those shipped with Countersign by name, any other by folder."""

from __future__ import annotations

from pathlib import Path

from watermark.errors import CheckpointError

CHECKPOINTS = Path(__file__).parent / "checkpoints"
CONFIG = "config.json"


def shipped_checkpoints() -> list[str]:
    """Names of the checkpoints in this installation, sorted."""
    return sorted(config.parent.name for config in CHECKPOINTS.glob(f"*/{CONFIG}"))


def resolve_checkpoint(name_or_path: str | Path) -> Path:
    """The folder of a checkpoint, by shipped name or by path. Only its being there is checked; its content when it is loaded.

    Raises CheckpointError, which lists the shipped ones.
    """
    if str(name_or_path) in shipped_checkpoints():
        return CHECKPOINTS / str(name_or_path)
    folder = Path(name_or_path).expanduser()
    if (folder / CONFIG).is_file():
        return folder
    why = f"folder {folder} has no {CONFIG}" if folder.is_dir() else "neither a shipped checkpoint nor a folder"
    raise CheckpointError(f"Checkpoint {str(name_or_path)!r}: {why}. Shipped: {', '.join(shipped_checkpoints()) or 'none'}.")
