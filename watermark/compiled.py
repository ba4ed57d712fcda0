"""Loops that numpy and torch have no fast words for, compiled by numba.

What a token costs beside the model's own forward pass is mostly the starting of small operations: a dozen of numpy's on a few thousand
numbers take longer than the arithmetic in them (docs/experiments.md, "What marking costs, compiled").
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba.core import config as settings
from numba.core.caching import FunctionCache

from watermark.folders import cache_folder

OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    # Sums may be taken in any order, as numpy's are; infinities stay what they are.
    "fastmath": {"reassoc", "contract", "nsz"},
}
CACHE_LINE = 64
"""Bytes that come from memory together."""
OTHERS_MAY_WRITE = 0o022


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code for this CPU, made at the first call with arrays of these types (a second or so) and kept in the cache folder for the
    next process. One thread, and other threads run meanwhile. There are no bounds checks. An array that is not contiguous is of another
    type: callers pass copies."""
    dispatcher: Any = numba.njit(function, **OPTIONS)  # type: ignore[call-overload]
    if folder := _folder(Path(function.__code__.co_filename)):
        with _located(folder), contextlib.suppress(RuntimeError):  # where it cannot be kept
            dispatcher._cache = _Cache(function)
    return dispatcher


class _Cache(FunctionCache):
    """A cache costs time, nothing else: what cannot be read is made again, and what cannot be written is made again next time."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            with contextlib.suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)


def _folder(source: Path) -> Path | None:
    """Where machine code of a file is kept: numba's own key knows nothing of options, of other files, or of a CPU that shares the folder.

    Whoever can write there can run code in processes that hold keys. None where that may be somebody else, or nothing can be written.
    """
    try:
        made_from = b"".join((Path(__file__).read_bytes(), source.read_bytes()))
        machine = f"{numba.__version__} {llvmlite.binding.get_host_cpu_name()} {OPTIONS['error_model']}"
        top = cache_folder() / "compiled"
        folder = top / hashlib.sha256(made_from + machine.encode()).hexdigest()[:16]
        for each in (top, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = each.stat()
            if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & OTHERS_MAY_WRITE):
                return None
    except OSError:
        return None
    return folder


@contextlib.contextmanager
def _located(folder: Path) -> Iterator[None]:
    """numba looks for a place when a cache is made: there, and nowhere else. Its options are the process's."""
    config: Any = settings
    before = config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES
    config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = str(folder), "UserProvidedCacheLocator"
    try:
        yield
    finally:
        config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = before
