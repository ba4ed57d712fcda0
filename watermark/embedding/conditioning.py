"""What marks the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """What marks each row of a batch. It travels with every call and is never stored on a module."""

    signs: Tensor
    """Codewords (B, n) of ±1; any value in rows that are not marked."""
    strength: Tensor
    """(B,) 0 … 1; 0 leaves the row's distribution untouched, to the bit."""
