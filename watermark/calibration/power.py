"""What share of marked texts is found at a length: the stated meaning of `insufficient_text`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUFFICIENT = 0.95
"""A text is long enough when this share of unedited marked texts of its length would be found."""


@dataclass(frozen=True)
class Power:
    """Exact p-values of the true codeword in unedited marked texts, cut at several lengths."""

    lengths: tuple[int, ...]
    exponents: NDArray[np.float32]
    """(texts, lengths): -log10 p before any correction; NaN where a text has fewer tokens."""

    def expected_detection(self, tokens: int, *, false_positive_rate: float, payload_bits: int, units: int) -> float:
        """Share of marked texts of `tokens` tokens whose mark would be found among so many candidates.

        Between two lengths it is interpolated, below the shortest 0 is the other end, and beyond the longest it stays.
        """
        per_unit = -math.expm1(math.log1p(-false_positive_rate) / units)  # the inverse of Šidák's formula
        needed = payload_bits * math.log10(2) - math.log10(per_unit)
        known = ~np.isnan(self.exponents)
        shares = (known & (self.exponents > needed)).sum(axis=0) / known.sum(axis=0)
        return float(np.interp(tokens, (0, *self.lengths), (0.0, *shares)))

    def sufficient_tokens(self, *, false_positive_rate: float, payload_bits: int, units: int) -> int | None:
        """The shortest length from which `SUFFICIENT` of the marks are found; None beyond the longest length measured."""
        options = {"false_positive_rate": false_positive_rate, "payload_bits": payload_bits, "units": units}
        for tokens in range(1, self.lengths[-1] + 1):
            if self.expected_detection(tokens, **options) >= SUFFICIENT:
                return tokens
        return None
