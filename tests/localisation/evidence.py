"""Made-up evidence and a book for the tests of localisation: host tokens that know no codeword, and marked stretches in them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

N = 256
STRENGTH = 0.45
"""λ of a marked token: at |e_t|² of about 1 a z of 0.45·√tokens, so 6.4 for 200 tokens."""


def random_signs(rng: np.random.Generator, count: int, n: int = N) -> np.ndarray:
    """int8 (count, n) of fair ±1."""
    return rng.choice(np.array([-1, 1], dtype=np.int8), size=(count, n))


def host_evidence(rng: np.random.Generator, tokens: int, n: int = N) -> np.ndarray:
    """float32 (tokens, n): uneven evidence, a quarter of the tokens none at all, as predictable tokens have."""
    weights = rng.gamma(2.0, 0.5, size=tokens) * (rng.random(tokens) > 0.25)
    return (weights[:, None] * rng.standard_normal((tokens, n)) / np.sqrt(n)).astype(np.float32)


def plant(evidence: np.ndarray, signs: np.ndarray, start: int, end: int, strength: float = STRENGTH) -> None:
    """Shift the tokens [start, end) towards `signs`, in place: x_t gains λ·v_t, as `boundaries` has it."""
    v = np.square(evidence[start:end]).sum(axis=1, keepdims=True)
    evidence[start:end] += strength * v * signs / evidence.shape[1]


def overlap_share(span: tuple[int, int], truth: tuple[int, int]) -> float:
    """Intersection over union, in tokens."""
    common = max(0, min(span[1], truth[1]) - max(span[0], truth[0]))
    return common / (span[1] - span[0] + truth[1] - truth[0] - common)


@dataclass(frozen=True)
class Found:
    signs: np.ndarray
    statistics: np.ndarray
    candidates: Sequence[Hashable]


class ListBook:
    """All codewords tried on every row. `candidates` and `work` may be declared larger than they are; `rows` counts decodings."""

    def __init__(self, signs: np.ndarray, *, candidates: int | None = None, work: int | None = None) -> None:
        self.signs, self.rows = signs, 0
        self.candidates, self.work = candidates or len(signs), work or len(signs)

    def trials(self, candidate: Hashable) -> int:
        return self.candidates

    def best(self, totals: np.ndarray) -> Found:
        self.rows += len(totals)
        statistics = totals @ self.signs.T.astype(np.float64)
        which = statistics.argmax(axis=1)
        return Found(self.signs[which], statistics.max(axis=1), [("codeword", int(i)) for i in which])
