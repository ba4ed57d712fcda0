"""Correction of a p-value for having tried many candidates and kept the best."""

from __future__ import annotations

import math

from watermark.errors import InvalidInput


def sidak(p: float, candidates: int) -> float:
    """Chance that the best of `candidates` independent p-values is `p` or smaller: 1 - (1 - p)^candidates.

    Šidák, "Rectangular confidence regions for the means of multivariate normal distributions", JASA 62:318 (1967).
    It is exact here when the codewords are independent, which HMAC makes the codewords of different issuers, payloads and
    nonces: given the evidence, their statistics are independent. Bonferroni's `candidates · p` bounds the chance whatever
    the dependence; it is larger by a share of about candidates·p/2, at a corrected p of 0.001 by one part in 2,000.
    Written with expm1 and log1p, so that p = 1e-200 keeps its relative accuracy. In (0, 1] for p in (0, 1].
    """
    if not 0.0 < p <= 1.0:
        raise InvalidInput(f"A p-value must be above 0 and at most 1; got {p!r}.")
    if candidates < 1:
        raise InvalidInput(f"At least one candidate must have been tried; got {candidates!r}.")
    return 1.0 if p == 1.0 else -math.expm1(candidates * math.log1p(-p))
