"""What the attacks of `benchmarks.secret_safety` work on, and how their outcomes are summarised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import attacker
from benchmarks.attacker import Floats, Prior, Rng
from watermark.statistics.correction import sidak
from watermark.statistics.intervals import bootstrap_mean, clopper_pearson
from watermark.statistics.rademacher import RademacherTail


@dataclass(frozen=True)
class Issuer:
    """Real marked texts of one issuer: evidence (m, n) as a verifier sees it, and the codeword (2^nonce_bits, n) of each."""

    evidence: Floats
    nonces: np.ndarray
    book: Floats


@dataclass(frozen=True)
class Material:
    """What one attacker has to work with; evidence in the attacker's view, except `verified`."""

    prior: Prior
    issuers: dict[int, Issuer]
    """By nonce bits."""
    signed: Floats
    """(p, n) cleaned directions of marked texts times their signs, to be re-signed."""
    held_out: Floats
    """(h, n) the same of other texts."""
    verified: Floats
    """(h, n) directions of these in the verifier's view, not cleaned, times their signs."""
    unmarked: Floats
    """(u, n) cleaned directions."""

    @property
    def n(self) -> int:
        return self.signed.shape[1]


@dataclass(frozen=True)
class Sample:
    """Texts an attacker got hold of: cleaned directions (m, n), and the issuer's codewords, which the attacker does not know."""

    units: Floats
    book: Floats


def best_p_value(evidence: Floats, book: Floats) -> tuple[float, float]:
    """Corrected p-value and z of the best codeword."""
    best = float((book @ evidence).max())
    return sidak(float(RademacherTail(evidence).pvalue(best)), len(book)), best / float(np.linalg.norm(evidence))


def drawing(segments: Floats, rng: Rng) -> Callable[[], Floats]:
    return lambda: segments[rng.integers(len(segments))]


def forging_share(book: Floats, own: Floats, needed: Floats) -> Callable[[Floats], float]:
    def share(signs: Floats) -> float:
        truth = book[int((book @ np.sign(signs)).argmax())]
        return float((attacker.simulated_forgery(signs, truth, own) > needed).mean())

    return share


def mean_z(values: Floats, seed: int) -> dict[str, Any]:
    return {"z": float(values.mean()), "z_interval": interval(values, seed)}


def interval(values: Any, seed: int) -> tuple[float, float]:
    return bootstrap_mean(values, range(len(values)), seed=seed)


def question_counts(counts: Sequence[int | None], limit: int) -> dict[str, Any]:
    """Median and quartiles; attacks that did not end count as taking longer than any that did (None: beyond the limit)."""
    ordered = sorted(limit + 1 if count is None else count for count in counts)
    picks = {"median": 0.5, "lower_quartile": 0.25, "upper_quartile": 0.75}
    values = {name: ordered[int(share * (len(ordered) - 1))] for name, share in picks.items()}
    ended = sum(count is not None for count in counts)
    return {
        **{name: value if value <= limit else None for name, value in values.items()},
        "ended": ended / len(counts),
        "ended_interval": clopper_pearson(ended, len(counts)),
        "limit": limit,
    }
