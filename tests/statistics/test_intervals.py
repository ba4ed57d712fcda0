from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from watermark.errors import InvalidInput
from watermark.statistics.intervals import bootstrap_by_cluster, bootstrap_mean, bootstrap_ratio, clopper_pearson


@pytest.mark.parametrize("k,n", [(0, 10), (3, 10), (10, 10), (294, 300), (1, 5000)])
def test_clopper_pearson_inverts_the_binomial_test(k: int, n: int) -> None:
    low, high = clopper_pearson(k, n)
    assert 0.0 <= low <= k / n <= high <= 1.0
    if k > 0:
        assert binom.sf(k - 1, n, low) == pytest.approx(0.025, rel=1e-6)
    if k < n:
        assert binom.cdf(k, n, high) == pytest.approx(0.025, rel=1e-6)


def test_clopper_pearson_edges() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(0, 300)[1] == pytest.approx(1 - 0.025 ** (1 / 300), rel=1e-9)
    with pytest.raises(InvalidInput):
        clopper_pearson(4, 3)


def test_bootstrap_mean_covers_like_the_normal_interval() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = rng.normal(3.0, 1.0, 80)
        low, high = bootstrap_mean(values, range(80), seed=trial, resamples=500)
        covered += low <= 3.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_clusters_widen_the_interval_by_the_right_amount() -> None:
    """Ten copies of every value carry the information of one: the interval must not shrink by √10."""
    values = np.random.default_rng(1).normal(size=60)
    single = bootstrap_mean(values, range(60), seed=0)
    copied = bootstrap_mean(np.repeat(values, 10), np.repeat(np.arange(60), 10).tolist(), seed=0)
    assert copied == pytest.approx(single)
    naive = bootstrap_mean(np.repeat(values, 10), range(600), seed=0)
    assert (naive[1] - naive[0]) * math.sqrt(10) == pytest.approx(single[1] - single[0], rel=0.1)


def test_ratio_weights_items_and_repeats_by_seed() -> None:
    low, high = bootstrap_ratio([1.0, 30.0], [10.0, 10.0], ["a", "b"], seed=0)
    assert (low, high) == (0.1, 3.0)
    first, again = (bootstrap_ratio([1.0, 30.0, 2.0], [1.0, 9.0, 4.0], "abc", seed=5) for _ in range(2))
    assert first == again


def test_refuses_nothing_and_mismatch() -> None:
    with pytest.raises(InvalidInput):
        bootstrap_by_cluster(np.zeros((0, 2)), [], lambda sums: sums[..., 0], seed=0)
    with pytest.raises(InvalidInput):
        bootstrap_by_cluster(np.zeros((2, 2)), ["a"], lambda sums: sums[..., 0], seed=0)
