"""Correction of a p-value for having tried many candidates and kept the best."""

from __future__ import annotations

import math

from watermark.errors import InvalidInput


def sidak(p: float, candidates: int) -> float:
    """Chance that the best of `candidates` independent p-values is `p` or smaller: 1 - (1 - p)^candidates.

    Šidák, "Rectangular confidence regions for the means of multivariate normal distributions", JASA 62:318 (1967).
    It is exact here when the codewords are independent, which HMAC makes the masks of different issuers and nonces: given the
    evidence, their statistics are independent.
    Written with expm1 and log1p, so that p = 1e-200 keeps its relative accuracy. In (0, 1] for p in (0, 1].
    """
    if not 0.0 < p <= 1.0:
        raise InvalidInput(f"A p-value must be above 0 and at most 1; got {p!r}.")
    if candidates < 1:
        raise InvalidInput(f"At least one candidate must have been tried; got {candidates!r}.")
    return 1.0 if p == 1.0 else -math.expm1(candidates * math.log1p(-p))


def bonferroni(p: float, candidates: int) -> float:
    """min(1, candidates · p): bounds the chance for the best of several p-values whatever their dependence.

    Bonferroni, "Teoria statistica delle classi e calcolo delle probabilità" (1936). For the codewords of one mask, which are products
    of few random vectors, and for overlapping windows. `candidates` may be beyond 2^64.
    """
    if not 0.0 < p <= 1.0:
        raise InvalidInput(f"A p-value must be above 0 and at most 1; got {p!r}.")
    if candidates < 1:
        raise InvalidInput(f"At least one candidate must have been tried; got {candidates!r}.")
    return math.exp(min(0.0, math.log(p) + math.log(candidates)))


def best_of(p: float, *, payload_bits: int, units: int) -> float:
    """p-value of the best codeword, when 2^payload_bits codewords were tried under each of `units` independent masks.

    Within a mask by `bonferroni`, across masks by `sidak`. Issuers with longer payloads pay for their own payloads only.
    """
    return sidak(bonferroni(p, 2**payload_bits), units)
