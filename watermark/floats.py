"""Half-precision arrays, widened."""

from __future__ import annotations

import numpy as np
import torch

BLOCK = 4096
"""Rows widened at a time where all of them would be too many: 16 MiB for 1,024 signs."""
PIECE = 2**15
"""Numbers that torch converts on the thread that asks; for more it wakes others, which then spin for a while."""


def single(rows: np.ndarray) -> np.ndarray:
    """As float32. From float16 by torch, which is several times as fast as numpy, whose own way is to convert bit by bit."""
    if rows.dtype != np.float16:
        return rows.astype(np.float32, copy=False)
    narrow, wide = np.require(rows, requirements=["C", "W"]).reshape(-1), np.empty(rows.size, np.float32)
    for first in range(0, rows.size, PIECE):
        torch.from_numpy(wide[first : first + PIECE]).copy_(torch.from_numpy(narrow[first : first + PIECE]))
    return wide.reshape(rows.shape)


def summed(rows: np.ndarray) -> np.ndarray:
    """float64 (n,): the sum of rows (T, n), without rounding on the way."""
    total = np.zeros(rows.shape[1])
    for first in range(0, len(rows), BLOCK):
        total += single(rows[first : first + BLOCK]).sum(axis=0, dtype=np.float64)
    return total
