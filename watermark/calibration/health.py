"""Whether a key's null is sound: are its p-values on human text as large as they should be?

The p-values of a new key over the calibration texts are held against the uniform distribution by the one-sided
Kolmogorov-Smirnov distance (Smirnov 1939), since only too-small p-values accuse anybody. The shifts are measured on one half of the
texts and the p-values taken on the other, both ways, so that no text vouches for itself. p-values are those of the best codeword of
the key, by the normal approximation, which is within one per cent where the distance is decided. All lengths and both halves
together refuse a sound key once in `1 / ALPHA` times; it is then simply drawn again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from watermark.calibration.null import Lean, NullSample

ALPHA = 0.01
LONGEST = 256
"""Lengths beyond are represented by too few texts."""


@dataclass(frozen=True)
class Health:
    ok: bool
    distance: float
    """Largest one-sided distance over lengths, as a multiple of the allowed one."""
    length: int
    """Where that is."""


def key_health(sample: NullSample, signs: NDArray[np.int8]) -> Health:
    """`signs` (c, n): the codewords of the key that are tried on every text (its masks)."""
    half = sample.text % 2 == 0
    lengths = [length for length in sample.lengths if length <= LONGEST] or sample.lengths[:1]
    worst, where = 0.0, lengths[0]
    for fitted in (half, ~half):
        lean = Lean(sample, fitted)
        for length in lengths:
            rows = np.flatnonzero(~fitted & (sample.length == length))
            if not len(rows):
                continue
            unit = sample.unit(rows)
            z = (unit @ signs.T.astype(np.float32) - lean.shift(signs, unit, length)).max(axis=1)
            p = np.sort(-np.expm1(len(signs) * log_ndtr(z)))
            distance = float((np.arange(1, len(p) + 1) / len(p) - p).max())
            allowed = math.sqrt(math.log(2 * len(lengths) / ALPHA) / (2 * len(rows)))
            if distance / allowed > worst:
                worst, where = distance / allowed, length
    return Health(worst <= 1.0, worst, where)
