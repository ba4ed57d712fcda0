"""Rows of a table in a file, read as they are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from watermark.floats import single


class TableFile:
    """A .npy file of float16 (rows, width).

    Not mapped, where the system can do without: the kernel maps a file in pieces of up to megabytes around what is touched, and they count
    as memory of the process (160 of 168 MB after a thousand rows at random).
    """

    def __init__(self, path: Path) -> None:
        self._table = np.load(path, mmap_mode="r")
        self._file = path.open("rb", buffering=0)

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """ids (n,) → float32 (n, width). Raises IndexError."""
        if not hasattr(os, "preadv"):
            return single(self._table[ids])
        found = np.empty((len(ids), self._table.shape[1]), np.float16)
        begin, size = self._table.offset, self._table.strides[0]
        for row, number in zip(found, ids.tolist(), strict=True):
            if not 0 <= number < len(self._table):
                raise IndexError(f"row {number} of a table with {len(self._table)}")
            os.preadv(self._file.fileno(), [row.data], begin + number * size)  # forks share the file, but not this position
        return single(found)
