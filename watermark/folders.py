"""Where Countersign keeps things on this machine: the user's data (keys) and what can be made again (models); one writer at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import platformdirs

from watermark.errors import InvalidInput


def data_folder() -> Path:
    """Secrets and state. `COUNTERSIGN_HOME` moves it; the folder is not created here."""
    return _folder("COUNTERSIGN_HOME", platformdirs.user_data_dir("countersign", appauthor=False))


def key_folder() -> Path:
    """The default key ring."""
    return data_folder() / "keys"


def cache_folder() -> Path:
    """Converted models, compiled loops and the like: safe to delete, made again when needed. `COUNTERSIGN_CACHE` moves it."""
    return _folder("COUNTERSIGN_CACHE", platformdirs.user_cache_dir("countersign", appauthor=False))


def _folder(variable: str, default: str) -> Path:
    # An empty variable is what `FOO= command` and compose files leave behind; it must not mean the current folder.
    return Path(os.environ.get(variable) or default).expanduser().absolute()


def lock(file: IO, path: Path) -> None:
    """One writer of `path` at a time, where the system can say so; the lock dies with its process. Raises InvalidInput."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidInput(f"Another process is writing {path}.") from None
