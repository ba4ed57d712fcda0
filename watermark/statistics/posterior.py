"""How sure a decoded payload is: the posterior over messages, given that the text carries one of the issuer's.

Model: evidence e_i = κ·σ_i²·s_i + noise of variance σ_i², as a matched filter gives it. The likelihood of a codeword is then
exp(κ·Σ s_i e_i) up to a constant, and κ ≈ S / (|e|² - S²/n) from the statistic S of the best codeword. Messages that a list decoder
did not return are accounted for by their expectation under random coding, 2^bits · 2^nonce_bits · Π cosh(κ·e_i) (Gallager,
*Information Theory and Reliable Communication*, 1968, ch. 5): below what a text can carry, that term is the larger and the
confidence is low, so that an erasure takes the place of a guess.

Limits: the confidence is about *which* message, not whether there is a mark (that is the p-value), and it is measured, not proven:
`python -m benchmarks.payload` compares it with the share of messages that were right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark.errors import InvalidInput

MIN_CONFIDENCE = 0.95
"""A payload below it is erased, and so is a bit."""


@dataclass(frozen=True)
class PayloadBit:
    value: int | None
    """0 or 1; None (an erasure) when neither is likely enough."""
    confidence: float
    """Posterior probability of the likelier value, 0.5 … 1."""


@dataclass(frozen=True)
class DecodedPayload:
    """The message read from a text."""

    value: int | None
    """None: an erasure, no message is likely enough."""
    confidence: float
    """Posterior probability of the likeliest message."""
    bits: tuple[PayloadBit, ...]
    """The highest bit first."""


def decode_payload(total: NDArray, payloads: Sequence[int], statistics: NDArray, *, payload_bits: int, units: int) -> DecodedPayload:
    """The posterior from a text's evidence (n,) and the likely messages with their statistics S = Σ s·e (m,).

    `payloads` may repeat (several nonces); `units` is the number of nonces tried. No likely message at all: everything is erased.
    """
    if payload_bits < 1 or units < 1 or len(payloads) != len(statistics):
        raise InvalidInput("A payload has at least one bit, one nonce, and one statistic per message.")
    energy = float(np.square(total, dtype=np.float64).sum())
    best = float(np.max(statistics, initial=0.0))
    trust = best / max(energy - best**2 / len(total), 1e-30) if best > 0 else 0.0
    likelihoods = trust * np.asarray(statistics, dtype=np.float64)
    scaled = np.abs(trust * np.asarray(total, dtype=np.float64))
    log_cosh = float((scaled + np.log1p(np.exp(-2 * scaled)) - np.log(2.0)).sum())
    others = (payload_bits * np.log(2.0)) + np.log(units) + log_cosh
    top = max(others, float(likelihoods.max(initial=-np.inf)))
    weights, rest = np.exp(likelihoods - top), float(np.exp(others - top))
    mass = weights.sum() + rest
    sums: dict[int, float] = {}
    ones = np.zeros(payload_bits)
    for payload, weight in zip(payloads, weights, strict=True):
        sums[payload] = sums.get(payload, 0.0) + float(weight)
        ones += weight * np.array([payload >> i & 1 for i in reversed(range(payload_bits))])
    share = (ones + rest / 2) / mass
    value = max(sums, key=lambda payload: sums[payload]) if sums else None
    confidence = sums[value] / float(mass) if value is not None else 0.0
    return DecodedPayload(value if confidence >= MIN_CONFIDENCE else None, confidence, tuple(_bit(float(s)) for s in share))


def _bit(share: float) -> PayloadBit:
    confidence = min(max(share, 1.0 - share), 1.0)
    return PayloadBit(int(share > 0.5) if confidence >= MIN_CONFIDENCE else None, confidence)
