"""Fair comparisons on a machine that drifts: contestants take turns, and each turn's ratio is taken before anything is averaged."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy import stats

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class PowerLaw:
    """seconds ∝ size**exponent, with the 95 % interval of the exponent."""

    exponent: float
    low: float
    high: float


def interleaved(contestants: Mapping[str, Callable[[int], T]], rounds: int) -> dict[str, list[T]]:
    """What each contestant returned in every round, called with the round's number.

    Every other round runs in the opposite order, so that neither is always the one that comes first.
    """
    found: dict[str, list[T]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            found[name].append(contestants[name](number))
    return found


def paired_ratios(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    """Round by round. Raises ValueError when one has rounds that the other lacks."""
    return [a / b for a, b in zip(upper, lower, strict=True)]


def power_law(sizes: Sequence[float], seconds: Sequence[float]) -> PowerLaw:
    """Least squares on the logarithms, every measurement by itself; the interval is Student's t for the slope. At least three points."""
    fit: Any = stats.linregress(np.log(sizes), np.log(seconds))
    half = float(stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr)
    slope = float(fit.slope)
    return PowerLaw(slope, slope - half, slope + half)
