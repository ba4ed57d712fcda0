"""Intervals for measured shares, means and ratios."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from watermark.errors import InvalidInput

Interval = tuple[float, float]


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Interval for a share that covers the truth with at least `confidence`, at any size of sample.

    Clopper and Pearson, Biometrika 26:404 (1934), by quantiles of the beta distribution. Nothing tried: (0, 1).
    """
    if not 0 <= successes <= trials or not 0.0 < confidence < 1.0:
        raise InvalidInput(f"Need 0 ≤ successes ≤ trials and 0 < confidence < 1; got {successes}, {trials}, {confidence}.")
    outside = (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else float(beta.ppf(outside, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(1.0 - outside, successes + 1, trials - successes))
    return low, high


def bootstrap_by_cluster(
    columns: ArrayLike,
    clusters: Sequence[Hashable],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a function of column sums, whole clusters resampled with replacement.

    `columns` has shape (items, k); `statistic` maps column sums of shape (…, k) to values of shape (…), such as the ratio
    of two columns. Items of one cluster (texts of one prompt) stay together, because they are not independent.
    Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), ch. 13; Davison and Hinkley (1997), ch. 3.8.
    """
    table = np.asarray(columns, dtype=np.float64)
    if table.ndim != 2 or not table.shape[0] or table.shape[0] != len(clusters):
        raise InvalidInput(f"Need one row and one cluster per item, and at least one; got shape {table.shape} and {len(clusters)}.")
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(numbers), table.shape[1]))
    np.add.at(sums, [numbers[cluster] for cluster in clusters], table)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(numbers), np.full(len(numbers), 1.0 / len(numbers)), size=resamples)
    outside = (1.0 - confidence) / 2.0
    low, high = np.quantile(statistic(times @ sums), [outside, 1.0 - outside])
    return float(low), float(high)


def bootstrap_mean(values: ArrayLike, clusters: Sequence[Hashable], *, seed: int, resamples: int = 10_000) -> Interval:
    """95 % interval of a mean over items, shape (items,)."""
    column = np.asarray(values, dtype=np.float64)
    return bootstrap_ratio(column, np.ones_like(column), clusters, seed=seed, resamples=resamples)


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, clusters: Sequence[Hashable], *, seed: int, resamples: int = 10_000
) -> Interval:
    """95 % interval of Σ numerators / Σ denominators, each of shape (items,)."""
    columns = np.stack([np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)], axis=1)
    return bootstrap_by_cluster(columns, clusters, lambda sums: sums[..., 0] / sums[..., 1], seed=seed, resamples=resamples)
