"""A folder that is made once: complete or not there, whatever breaks off and however many processes start at once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from watermark.errors import BaseModelError

MARKER = "complete.json"
"""Written last. It lists the folder's files with their sizes, so a folder that lost or shortened a file is made again too."""


def made_once(folder: Path, make: Callable[[Path], None], *, needed_bytes: int, say: Callable[[str], None]) -> Path:
    """`folder`, filled by `make(temporary folder)` unless it is complete already.

    `needed_bytes` is the free space that making it takes at its peak; `say` gets a line when there is something to wait for.
    Raises BaseModelError when the folder cannot be written; whatever `make` raises passes through and leaves nothing behind.
    """
    if is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder, say):
            if is_complete(folder):  # another process made it while this one waited
                return folder
            for stale in folder.parent.glob(f"{folder.name}.making-*"):  # the lock is ours, so nobody is still writing there
                shutil.rmtree(stale, ignore_errors=True)
            _require_space(folder.parent, needed_bytes)
            _make(folder, make)
    except OSError as error:
        raise BaseModelError(
            f"Cannot write the model cache {folder.parent}: {error.strerror or error}. "
            "Make it writable, or set COUNTERSIGN_CACHE to a folder that is."
        ) from error
    return folder


def is_complete(folder: Path) -> bool:
    try:
        files = json.loads((folder / MARKER).read_bytes())["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.making-", dir=folder.parent))
    try:
        make(temporary)
        sizes = {}
        for file in sorted(temporary.iterdir()):
            # 0644: a cache folder may serve several accounts. fsync: after a power cut a renamed folder must not hold empty files.
            file.chmod(0o644)
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            sizes[file.name] = file.stat().st_size
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
        marker = folder / f"{MARKER}.new"
        marker.write_text(json.dumps({"files": sizes}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        marker.replace(folder / MARKER)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _locked(folder: Path, say: Callable[[str], None]) -> FileLock:
    """The acquired lock of `folder`, a context manager that lets go of it. The system frees it when its holder dies."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("Another process is preparing the same model; waiting for it …")
    else:
        return lock
    lock.acquire()
    return lock


def _require_space(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise BaseModelError(
            f"The model cache {folder} needs {needed_bytes / 1e9:.1f} GB of free space and has {free / 1e9:.1f} GB. "
            "Make room, or set COUNTERSIGN_CACHE to a folder on another disk."
        )
