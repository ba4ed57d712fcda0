"""The family of windows that a text is searched in, and the evidence of each by one subtraction."""

from __future__ import annotations

import numpy as np

from watermark.errors import InvalidInput
from watermark.floats import BLOCK, single

GRID = 8
"""Tokens; windows begin and end on multiples of it, so that one row of sums per GRID tokens serves them all."""
SHORTEST = 32
"""Tokens. Shorter windows would double the family and hold too little evidence to pay for it."""


def search_windows(tokens: int) -> np.ndarray:
    """int64 (w, 2), rows [start, end) in tokens, from the shortest to the longest, each size from the first to the last.

    Sizes are 2^k and 3·2^(k-1) from SHORTEST up, all below `tokens` (the whole text is a test of its own); steps are a quarter
    of the size, on the grid. The last window of each size reaches the end of the text and holds up to GRID - 1 tokens more.
    For every span of at least 64 tokens there is a window that shares 0.7 of their union (measured: 0.74). w is at most 11/24 of
    `tokens`, since a size s adds 4·tokens / s (48, whose step is rounded down, 6·tokens / s). Empty below 2·SHORTEST tokens.
    The grid is that of scan statistics with geometric sizes: Arias-Castro, Donoho, Huo, "Near-optimal detection of geometric
    objects by fast multiscale methods", IEEE Trans. Inf. Theory 51:7 (2005).
    """
    if tokens < 2 * SHORTEST:
        return np.zeros((0, 2), dtype=np.int64)
    families, size = [], SHORTEST
    while size < tokens:
        last = (tokens - size) // GRID * GRID
        starts = np.union1d(np.arange(0, last, max(GRID, size // 4 // GRID * GRID)), last)
        ends = starts + size
        ends[-1] = tokens if last else size  # never the whole text
        families.append(np.stack([starts, ends], axis=1))
        size += size // 2 if size & (size - 1) == 0 else size // 3  # 32, 48, 64, 96, …
    return np.concatenate(families).astype(np.int64)


def grid_sums(per_token: np.ndarray) -> np.ndarray:
    """float64 (⌈T / GRID⌉ + 1, n): row k is the evidence of the first k·GRID tokens, the last row that of all T.

    Double precision, so that subtracting sums over 100,000 tokens costs no digit that matters: 100 MB there for 1,024 signs,
    half of what the input takes in float16. Raises InvalidInput unless `per_token` is a finite (T, n).
    """
    if per_token.ndim != 2:
        raise InvalidInput(f"Evidence per token must have shape (tokens, signs); got {per_token.shape}.")
    tokens, n = per_token.shape
    sums = np.zeros((-(-tokens // GRID) + 1, n))
    for start in range(0, tokens, BLOCK):
        block = single(per_token[start : start + BLOCK])
        cells, whole = sums[start // GRID + 1 :], len(block) // GRID * GRID
        block[:whole].reshape(-1, GRID, n).sum(axis=1, dtype=np.float64, out=cells[: whole // GRID])
        if whole < len(block):
            block[whole:].sum(axis=0, dtype=np.float64, out=cells[whole // GRID])
    np.cumsum(sums, axis=0, out=sums)
    if not np.isfinite(sums[-1]).all():  # what is not finite stays so in every later sum
        raise InvalidInput("Evidence per token must be finite numbers.")
    return sums


def window_totals(sums: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """float64 (w, n): the evidence of each of `windows` (w, 2), from what `grid_sums` returned."""
    totals = sums[-(-windows[:, 1] // GRID)]
    totals -= sums[windows[:, 0] // GRID]
    return totals
