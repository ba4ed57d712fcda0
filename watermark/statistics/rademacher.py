"""The exact tail of a Rademacher sum S = Σ s_i·e_i: fixed evidence e, independent fair signs s_i = ±1.

Method. Up to `ENUMERATED` nonzero entries, all 2^n sums are listed. Beyond, |e_i| is written as c·w_i + r_i with whole
weights w_i (a grid of `GRID_UNITS` units in total, c fitted by least squares), and the distribution of Σ b_i·w_i with
b_i ∈ {0, 1} is built by successive addition, the textbook convolution of independent lattice variables (as for the
Poisson-binomial and Wilcoxon signed-rank distributions: Feller, *An Introduction to Probability Theory and Its
Applications*, vol. 1, ch. XI). All terms are positive, so relative accuracy is kept far into the tail; a Fourier
transform would lose everything below 1e-16. The few entries that dwarf all others together (`MAX_HEADS` at most) stay off
the grid: their signs are enumerated, so one huge entry does not coarsen the grid of the rest.

Error. With R = Σ s_i·r_i, Δ = Σ|r_i| and any η > 0, S' being the gridded sum:

    P(S' ≥ x + Δ)                    ≤ P(S ≥ x) ≤ P(S' ≥ x - Δ)
    P(S' ≥ x + η) - exp(-η²/2Σr_i²)  ≤ P(S ≥ x) ≤ P(S' ≥ x - η) + exp(-η²/2Σr_i²)

The second line is Hoeffding's inequality (JASA 58:13, 1963) for R. Each side takes the better of the two; rounding of
float64 is added on top. `pvalue` returns the upper end, so it is never below the truth. Measured excess of the upper end
over the lower, half-normal evidence: n = 64: 0.6 % at p = 1e-3, 1.1 % at 1e-6; n = 512: 4 % and 7 % (integer evidence:
within 0.1 % to 5 % of the truth); n = 2048: 14 % and 27 %. Far out it is a factor (n = 512: 1.9 at 1e-50, 7 at 1e-100).
Measured on one core: a build takes 10 ms at n = 512 and 28 ms at n = 2048, a million look-ups 50 ms.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from watermark.errors import InvalidInput

GRID_UNITS = 2**17
ENUMERATED = 20
MAX_ENTRIES = 2**14
"""More would leave less than four grid units for an average entry."""
MAX_HEADS = 6
HEAD_SHARE = 1 / 16
"""An entry is a head when it exceeds this share of the sum of itself and all smaller entries."""
SMALLEST = 1e-300
"""No p-value is reported below this; it also absorbs what underflow may have lost."""

Floats = NDArray[np.float64]


class RademacherTail:
    """P(Σ s_i·e_i ≥ x) for one evidence vector e, shape (n,): built once, asked for any number of statistics.

    Statistics are to be computed in float64: values within 1e-12·Σ|e| of each other count as tied.
    Raises InvalidInput when the evidence is not a finite vector of at most `MAX_ENTRIES`.
    """

    def __init__(self, evidence: ArrayLike) -> None:
        magnitudes = np.sort(np.abs(_vector(evidence)))
        if magnitudes.size > MAX_ENTRIES:
            raise InvalidInput(f"Evidence has {magnitudes.size} entries; at most {MAX_ENTRIES} are supported.")
        self._scale = float(magnitudes[-1]) if magnitudes.size else 0.0
        if self._scale == 0.0:
            return  # zero evidence says nothing: p = 1
        magnitudes = magnitudes[magnitudes > 0.0] / self._scale
        self._slack = 1e-12 * float(magnitudes.sum())
        self._floor = max(0.5 ** min(magnitudes.size, 1000), SMALLEST)
        if magnitudes.size <= ENUMERATED:
            self._rest: _Lattice | _Enumeration = _Enumeration(magnitudes)
            self._head_sums: Floats = np.zeros(1)
            return
        heads = _count_heads(magnitudes)
        split = magnitudes.size - heads
        self._rest = _Lattice(magnitudes[:split])
        self._head_sums = _signed_sums(magnitudes[split:])

    def pvalue(self, statistic: ArrayLike) -> Floats:
        """The upper (safe) end of the bracket around P(S ≥ statistic), in (0, 1]; the shape of `statistic`.

        Non-increasing in the statistic. Beyond the largest possible sum it is the chance of that sum, 2^-n.
        """
        return self.bracket(statistic)[1]

    def bracket(self, statistic: ArrayLike) -> tuple[Floats, Floats]:
        """(lower, upper) with lower ≤ P(S ≥ statistic) ≤ upper, each of the shape of `statistic`. NaN raises InvalidInput."""
        x = np.asarray(statistic, dtype=np.float64)
        if np.isnan(x).any():
            raise InvalidInput("A statistic is NaN; no p-value can be given for it.")
        if self._scale == 0.0:
            return np.ones_like(x), np.ones_like(x)
        with np.errstate(over="ignore"):
            x = x / self._scale
        lower, upper = np.zeros_like(x), np.zeros_like(x)
        for offset in self._head_sums:
            lower += self._rest.at_least(x - offset + self._slack, upper=False)
            upper += self._rest.at_least(x - offset - self._slack, upper=True)
        lower, upper = lower / self._head_sums.size, upper / self._head_sums.size
        return np.clip(lower, 0.0, 1.0), np.clip(upper, self._floor, 1.0)


class _Enumeration:
    """All 2^n sums, sorted."""

    def __init__(self, magnitudes: Floats) -> None:
        self._sums = np.sort(_signed_sums(magnitudes))

    def at_least(self, x: Floats, *, upper: bool) -> Floats:
        """Share of sums ≥ x; exact, so `upper` makes no difference."""
        return 1.0 - np.searchsorted(self._sums, x, side="left") / self._sums.size


class _Lattice:
    """Bounds on P(S ≥ y_j) at every lattice point y_j = c·(2j - W), j = 0 … W; a statistic is looked up at its neighbour."""

    def __init__(self, magnitudes: Floats) -> None:
        weights = np.rint(magnitudes * (GRID_UNITS / magnitudes.sum())).astype(np.int64)
        # Least squares instead of the plain grid step: evidence of equal entries is then represented without any residue.
        unit = float(magnitudes @ weights) / float(weights @ weights)
        residues = magnitudes - unit * weights
        self._step = 2.0 * unit
        self._maximum = float(magnitudes.sum())
        self._half = float(weights.sum()) / 2.0
        tail, error = _upper_tail(weights[weights > 0])
        variance = float(residues @ residues)
        hard = float(np.abs(residues).sum()) / self._step + 1e-6
        # A thousandth of the tail itself is given to Hoeffding's term; the rest follows from it.
        margins = np.sqrt(2.0 * variance * np.log(1e3 / np.maximum(tail, SMALLEST))) / self._step + 1e-6
        thousandth = 1e-3 * np.maximum(tail, SMALLEST)
        points = np.arange(tail.size)
        high = np.minimum(_shifted(tail, points - math.floor(hard)), _shifted(tail, points - np.floor(margins)) + thousandth)
        low = np.maximum(_shifted(tail, points + math.ceil(hard)), _shifted(tail, points + np.ceil(margins)) - thousandth)
        # P(S ≥ x) never grows with x: a bound further left (right) holds here too, which makes the tables monotone.
        self._high = np.minimum(np.minimum.accumulate(high) * (1.0 + error) + SMALLEST, 1.0)
        self._low = np.maximum.accumulate(low[::-1])[::-1] * (1.0 - error)

    def at_least(self, x: Floats, *, upper: bool) -> Floats:
        """A bound on P(S ≥ x) from above or below."""
        position = np.clip(x / self._step + self._half, -2.0, self._high.size + 1.0)
        if not upper:
            index = np.ceil(position + 1e-6).astype(np.int64)
            found = self._low[np.clip(index, 0, self._low.size - 1)]
            return np.where(index >= self._low.size, 0.0, np.where(x <= -self._maximum, 1.0, found))
        index = np.floor(position - 1e-6).astype(np.int64)
        found = self._high[np.clip(index, 0, self._high.size - 1)]
        return np.where(x > self._maximum, 0.0, np.where(index < 0, 1.0, found))


def hoeffding_bound(evidence: ArrayLike, statistic: ArrayLike) -> Floats:
    """exp(-S²/2‖e‖²) ≥ P(Σ s_i·e_i ≥ S) for S > 0, else 1 (Hoeffding 1963, theorem 2); the shape of `statistic`."""
    vector, x = _vector(evidence), np.asarray(statistic, dtype=np.float64)
    scale = float(np.abs(vector).max(initial=0.0))
    if scale == 0.0:
        return np.ones_like(x)
    with np.errstate(over="ignore"):
        exponent = np.maximum(x / scale, 0.0) ** 2 / (2.0 * float(np.square(vector / scale).sum()))
    return np.maximum(np.exp(-exponent), SMALLEST)


def _vector(evidence: ArrayLike) -> Floats:
    vector = np.asarray(evidence, dtype=np.float64)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise InvalidInput(f"Evidence must be a vector of finite numbers; got shape {vector.shape}.")
    return vector


def _count_heads(ascending: Floats) -> int:
    totals = np.cumsum(ascending)
    large = (ascending > HEAD_SHARE * totals)[::-1][:MAX_HEADS]
    return int(large.size if large.all() else np.argmin(large))


def _signed_sums(magnitudes: Floats) -> Floats:
    """All 2^n sums Σ ±magnitudes."""
    sums = np.zeros(1)
    for magnitude in magnitudes:
        sums = np.concatenate([sums - magnitude, sums + magnitude])
    return sums


def _upper_tail(ascending: NDArray[np.int64]) -> tuple[Floats, float]:
    """P(Σ b_i·w_i ≥ j) for j = 0 … Σw and a bound on its relative error (underflow aside)."""
    total = int(ascending.sum())
    counts = np.zeros(total + 1)
    counts[0] = 1.0
    exponent, used = 0, 1
    for step, weight in enumerate(ascending.tolist(), start=1):
        # Unscaled counts (powers of two are exact) save a pass; small weights come first, so the array grows late.
        counts[weight : weight + used] += counts[:used].copy()
        used += weight
        if step % 512 == 0:
            counts[:used] *= 2.0**-512
            exponent += 512
    tail = np.cumsum(counts[::-1])[::-1]
    tail = np.ldexp(tail, exponent - ascending.size)
    return np.minimum(tail, 1.0), 2.0**-52 * (ascending.size + total + 8)


def _shifted(tail: Floats, index: NDArray[np.int64] | Floats) -> Floats:
    """The tail at other lattice points: 1 to the left of the lattice, 0 to its right."""
    whole = index.astype(np.int64)
    return np.where(whole >= tail.size, 0.0, tail[np.clip(whole, 0, tail.size - 1)])
