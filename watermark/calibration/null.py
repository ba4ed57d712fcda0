"""The null of a given key: how far unmarked texts lean towards one of its codewords, and the p-value that takes it into account.

For unmarked texts of one kind and about one length, with unit evidence u = e/|e|, the statistic z = s·u of a fixed codeword s has a
mean of μ = s·E[u] instead of 0, and a deviation of 1 within a few per cent (docs/experiments.md); E[u] grows with the square root of the
length, since it comes from a mean evidence per token. The reported p-value is that of S - max(0, μ)·|e|, for the worst of the kinds
of text that the evidence itself may belong to: never smaller than the exact one. It rests on the assumption that the text leans no
further than those kinds do on average; the exact p-value rests on none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PLAUSIBLE = 3.0
"""A text may be of every kind whose log-likelihood is at most this much below the likeliest kind's."""
EFFECTIVE_SIGNS = 128
"""Degrees of freedom of unit evidence: 1 / Σu^4 of human texts is 126 to 152 (docs/experiments.md)."""
FEWEST_TEXTS = 100
"""Fewer texts of one kind and length say little about a mean; the nearest shorter length that has as many speaks for them."""


@dataclass(frozen=True)
class NullSample:
    """Unit evidence of unmarked texts, one row per text and length."""

    kinds: tuple[str, ...]
    directions: NDArray[np.int8]
    """(rows, n): u, in steps of `scale`."""
    scale: NDArray[np.float32]
    """(rows,)"""
    length: NDArray[np.int32]
    """(rows,) tokens."""
    kind: NDArray[np.int32]
    """(rows,) index into `kinds`."""
    text: NDArray[np.int32]
    """(rows,) which text; the lengths of one text are prefixes of it."""

    @classmethod
    def of(
        cls, kinds: Sequence[str], evidence: NDArray, length: NDArray[np.int32], kind: NDArray[np.int32], text: NDArray[np.int32]
    ) -> NullSample:
        """From evidence (rows, n); rows without any evidence say nothing and are left out."""
        norms = np.linalg.norm(evidence, axis=1)
        kept = norms > 0
        unit = evidence[kept] / norms[kept, None]
        scale = np.abs(unit).max(axis=1) / 127
        steps = np.rint(unit / scale[:, None]).astype(np.int8)
        return cls(tuple(kinds), steps, scale.astype(np.float32), length[kept], kind[kept], text[kept])

    @property
    def lengths(self) -> list[int]:
        return sorted(set(self.length.tolist()))

    def unit(self, rows: NDArray) -> NDArray[np.float32]:
        """(len(rows), n) unit evidence."""
        return self.directions[rows].astype(np.float32) * self.scale[rows, None]


class Lean:
    """E[u] for each kind and length: (kinds, lengths, n), from the rows of a sample that `rows` selects (all by default)."""

    def __init__(self, sample: NullSample, rows: NDArray[np.bool_] | None = None) -> None:
        chosen = np.ones(len(sample.length), dtype=bool) if rows is None else rows
        self.lengths = sample.lengths
        self._mean = np.zeros((len(sample.kinds), len(self.lengths), sample.directions.shape[1]), dtype=np.float32)
        for kind in range(len(sample.kinds)):
            known: int | None = None
            for place, length in enumerate(self.lengths):
                found = np.flatnonzero(chosen & (sample.kind == kind) & (sample.length == length))
                if len(found) >= FEWEST_TEXTS:
                    known = place
                    self._mean[kind, place] = _shrunk(sample.unit(found).mean(axis=0), len(found))
                elif known is not None:  # a mean per token, so it grows like the square root of the length
                    self._mean[kind, place] = self._mean[kind, known] * np.sqrt(length / self.lengths[known])

    def shift(self, signs: NDArray, unit: NDArray, tokens: int) -> NDArray[np.float64]:
        """Shifts of codewords (c, n) on texts of `tokens` tokens with unit evidence (r, n): (r, c), in standard deviations.

        max(0, μ) over the kinds that a text may be of, going by its evidence (which knows no key).
        """
        leaning = self._near(tokens) @ signs.T.astype(np.float32)  # (kinds, lengths, c)
        shifts = np.where(self._plausible(unit, tokens)[:, :, None], np.maximum(leaning.max(axis=1), 0.0)[None], 0.0)
        return shifts.max(axis=1).astype(np.float64)

    def own_shifts(self, signs: NDArray, unit: NDArray, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """`shift` of one codeword for each text: signs and unit (r, n), tokens (r,) → (r,)."""
        shifts = np.empty(len(signs))
        for count in np.unique(tokens):
            rows = np.flatnonzero(tokens == count)
            leaning = np.maximum((self._near(int(count)) @ signs[rows].T.astype(np.float32)).max(axis=1), 0.0)  # (kinds, rows)
            shifts[rows] = np.where(self._plausible(unit[rows], int(count)), leaning.T, 0.0).max(axis=1)
        return shifts

    def _near(self, tokens: int) -> NDArray[np.float32]:
        """Means at the measured lengths on both sides of `tokens`: (kinds, 1 or 2, n)."""
        place = int(np.searchsorted(self.lengths, tokens))
        near = sorted({max(place - 1, 0), min(place, len(self.lengths) - 1)})
        return self._mean[:, near] * np.float32(np.sqrt(max(1.0, tokens / self.lengths[-1])))

    def _plausible(self, unit: NDArray, tokens: int) -> NDArray[np.bool_]:
        """Which kinds the texts may be of (r, kinds): those whose likelihood is within a factor of that of the likeliest one."""
        means = self._near(tokens)
        gain = means @ unit.T.astype(np.float32) - np.square(means).sum(axis=-1, keepdims=True) / 2  # (kinds, lengths, r)
        best = EFFECTIVE_SIGNS * gain.max(axis=1).T
        return best >= best.max(axis=1, keepdims=True) - PLAUSIBLE


def _shrunk(mean: NDArray[np.float32], texts: int) -> NDArray[np.float32]:
    """The positive-part estimator of James and Stein (1961): a mean of unit vectors has 1 / texts of its square from chance."""
    return mean * np.float32(max(0.0, 1.0 - 1.0 / (texts * max(float(mean @ mean), 1e-12))))
