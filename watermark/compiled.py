"""Loops that numpy and torch have no fast words for, compiled by numba.

What a token costs beside the model's own forward pass is mostly the starting of small operations: a dozen of numpy's on a few thousand
numbers take longer than the arithmetic in them (docs/experiments.md, "What marking costs, compiled").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from watermark.folders import cache_folder

REORDERED = {"reassoc", "contract", "nsz"}
"""Sums may be taken in any order, as numpy's are; infinities stay what they are."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code for this CPU, made at the first call with arrays of these types (a second or so) and kept in the cache folder for the
    next process. One thread, and other threads run meanwhile."""
    numba.config.CACHE_DIR = str(cache_folder() / "compiled")  # type: ignore[attr-defined]  # numba sets its options at run time
    options = {"nogil": True, "fastmath": REORDERED, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # nowhere to keep it: a cache costs time, nothing else
        return numba.njit(function, **options)
