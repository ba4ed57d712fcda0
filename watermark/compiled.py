"""Loops that numpy and torch have no fast words for, compiled by numba.

What a token costs beside the model's own forward pass is mostly the starting of small operations: a dozen of numpy's on a few thousand
numbers take longer than the arithmetic in them (docs/experiments.md, "What marking costs, compiled").
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from watermark.folders import cache_folder

REORDERED = {"reassoc", "contract", "nsz"}
"""Sums may be taken in any order, as numpy's are; infinities stay what they are."""

CACHE_LINE = 64
"""Bytes that come from memory together."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code for this CPU, made at the first call with arrays of these types (a second or so) and kept in the cache folder for the
    next process. One thread, and other threads run meanwhile. An array that is not contiguous is of another type: callers pass copies."""
    numba.config.CACHE_DIR = str(_folder())  # type: ignore[attr-defined]  # numba sets its options at run time
    options = {"nogil": True, "fastmath": REORDERED, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # nowhere to keep it: a cache costs time, nothing else
        return numba.njit(function, **options)


@functools.cache
def _folder() -> Path:
    """Where machine code is kept. Empty files, which a machine that lost its power leaves behind, would be errors when they are read."""
    folder = cache_folder() / "compiled"
    for file in folder.rglob("*.nb?"):
        with contextlib.suppress(OSError):
            if not file.stat().st_size:
                file.unlink()
    return folder
