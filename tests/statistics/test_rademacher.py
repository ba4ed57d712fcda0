"""The exact tail against brute force, exact integers, high precision and simulation."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from watermark.errors import InvalidInput
from watermark.statistics.rademacher import ENUMERATED, MAX_ENTRIES, RademacherTail, hoeffding_bound

ENTRIES = st.one_of(
    st.floats(-1e3, 1e3, allow_subnormal=False), st.sampled_from([0.0, 1.0, -1.0, 1e9, 1e-9]), st.integers(-5, 5).map(float)
)


def brute_force(evidence: list[float], statistic: Fraction) -> float:
    """P(S ≥ statistic) in exact arithmetic."""
    exact = [Fraction(e) for e in evidence]
    hits = sum(sum(s * e for s, e in zip(signs, exact, strict=True)) >= statistic for signs in product((-1, 1), repeat=len(exact)))
    return hits / 2 ** len(exact)


def share_above(ascending: np.ndarray, x: float) -> float:
    return 1.0 - float(np.searchsorted(ascending, x)) / ascending.size


def integer_tail(weights: np.ndarray) -> list[int]:
    """Number of sign patterns with Σ b_i·w_i ≥ j, j = 0 … Σw, in whole numbers."""
    counts = [1]
    for weight in weights.tolist():
        longer = counts + [0] * weight
        for i, count in enumerate(counts):
            longer[i + weight] += count
        counts = longer
    tail, total = [], 0
    for count in reversed(counts):
        total += count
        tail.append(total)
    return tail[::-1]


@given(st.lists(ENTRIES, min_size=1, max_size=9), st.data())
@settings(max_examples=150, deadline=None)
def test_enumeration_equals_brute_force(evidence: list[float], data: st.DataObject) -> None:
    # The statistic of a real codeword: a sum that occurs, so that "at least" and "more than" differ.
    signs = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(evidence), max_size=len(evidence)))
    statistic = sum((Fraction(s) * Fraction(e) for s, e in zip(signs, evidence, strict=True)), Fraction(0))
    slack = Fraction(2e-12) * sum(abs(Fraction(e)) for e in evidence)
    p = float(RademacherTail(evidence).pvalue(float(statistic)))
    assert brute_force(evidence, statistic) <= p <= brute_force(evidence, statistic - slack)


@pytest.mark.parametrize("n", [1, 2, 13, ENUMERATED])
def test_twenty_entries_and_fewer_are_exact(n: int) -> None:
    rng = np.random.default_rng(n)
    evidence = rng.normal(size=n)
    patterns = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    sums = np.sort(patterns @ evidence)
    tail = RademacherTail(evidence)
    for x in [*rng.uniform(sums[0], sums[-1], 20), float(sums[-1]), float(sums[0])]:
        truth = share_above(sums, x - 1e-12 * np.abs(evidence).sum())
        assert tail.pvalue(x) == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("shape", ["normal", "one huge", "geometric", "doubling", "ties", "three sizes"])
def test_lattice_brackets_brute_force(shape: str) -> None:
    """21 and 22 entries no longer are enumerated, but still can be by hand."""
    rng = np.random.default_rng(5)
    evidence = {
        "normal": rng.normal(size=22),
        "one huge": np.append(rng.normal(size=21), 1e4),
        "geometric": 0.7 ** np.arange(22),
        "doubling": 2.0 ** np.arange(22),  # each weight above the sum of all smaller ones
        "ties": np.ones(21),
        "three sizes": np.repeat([1.0, np.pi, 400.0], 7),
    }[shape]
    sums = np.zeros(1)
    for e in evidence:
        sums = np.concatenate([sums - e, sums + e])
    sums.sort()
    tail = RademacherTail(evidence)
    slack = 1e-13 * np.abs(evidence).sum()
    for x in np.concatenate([rng.choice(sums, 200), np.quantile(sums, [0.99, 0.9999, 1.0])]):
        low, high = tail.bracket(x)
        assert high >= share_above(sums, x - slack), (shape, x)
        assert low <= share_above(sums, x + slack), (shape, x)
        # And not far above the truth: at most what lies within 0.0002 standard deviations.
        assert high <= share_above(sums, x - 2e-4 * np.linalg.norm(evidence)) * 1.005, (shape, x)


@pytest.mark.parametrize("largest", [1, 3, 40])
def test_integer_evidence_against_whole_number_convolution(largest: int) -> None:
    weights = np.random.default_rng(largest).integers(1, largest + 1, 300)
    counts = integer_tail(weights)
    statistics = 2.0 * np.arange(len(counts)) - weights.sum()
    with mpmath.workdps(30):
        truth = np.array([float(mpmath.mpf(count) / mpmath.mpf(2) ** 300) for count in counts])
    low, high = RademacherTail(weights).bracket(statistics)
    assert np.all(low <= truth) and np.all(high >= truth)
    likely = truth > 1e-10
    assert np.max(high[likely] / truth[likely]) < 1.05
    far = (truth > 1e-80) & (truth < 1e-50)
    assert far.any() and np.max(high[far] / truth[far]) < 4.0
    if largest == 1:  # a binomial, represented without residue
        np.testing.assert_allclose(high, truth, rtol=1e-9)
        # From below, a statistic on an atom may by rounding lie above it: the atom does not count.
        np.testing.assert_allclose(low[:-1], truth[1:], rtol=1e-9)


def test_far_tail_of_a_binomial() -> None:
    """1e-100 and beyond, against the binomial tail in 50 digits."""
    n = 512
    tail = RademacherTail(np.full(n, 0.37))
    with mpmath.workdps(50):
        for heads in (400, 470, 500, 512):
            truth = mpmath.fsum(mpmath.binomial(n, k) for k in range(heads, n + 1)) / mpmath.mpf(2) ** n
            low, high = tail.bracket(0.37 * (2 * heads - n))
            assert low <= truth <= high <= truth * (1 + mpmath.mpf("1e-6")), heads
    assert tail.pvalue(0.37 * n) < 1e-154


def test_equal_entries_are_exact_at_any_number() -> None:
    """3,000 entries of 43.7 grid units each: the fitted unit leaves no residue all the same."""
    heads = np.arange(1500, 1800)
    low, high = RademacherTail(np.full(3000, 0.1)).bracket(0.1 * (2.0 * heads - 3000))
    np.testing.assert_allclose(high, binom.sf(heads - 1, 3000, 0.5), rtol=1e-6)
    np.testing.assert_allclose(low, binom.sf(heads, 3000, 0.5), rtol=1e-6)


def test_a_huge_entry_does_not_coarsen_the_rest() -> None:
    """With a head of 1e5, P(S >= 1e5 + x) is half of what the other entries give for x."""
    rest = np.random.default_rng(6).normal(size=300)
    x = np.linalg.norm(rest) * np.array([0.0, 2.0, 4.0])
    high = RademacherTail(np.append(rest, 1e5)).pvalue(1e5 + x)
    np.testing.assert_allclose(high, RademacherTail(rest).pvalue(x) / 2.0, rtol=1e-3)


@pytest.mark.parametrize("n", [64, 512])
def test_against_simulation(n: int) -> None:
    rng = np.random.default_rng(n)
    evidence = np.abs(rng.normal(size=n))
    draws = np.concatenate([(2.0 * rng.integers(0, 2, (10_000, n)) - 1.0) @ evidence for _ in range(8)])
    tail = RademacherTail(evidence)
    for z in (-2.0, -0.5, 0.0, 1.0, 2.0, 3.0):
        x = z * np.linalg.norm(evidence)
        share, (low, high) = np.mean(draws >= x), tail.bracket(x)
        noise = 4.5 * math.sqrt(high / draws.size)
        assert low - noise <= share <= high + noise


def test_p_values_of_random_codewords_are_valid_and_nearly_uniform() -> None:
    rng = np.random.default_rng(11)
    evidence = rng.normal(size=512) * rng.gamma(1.0, size=512)
    p = RademacherTail(evidence).pvalue((2.0 * rng.integers(0, 2, (20_000, 512)) - 1.0) @ evidence)
    for level in (0.5, 0.1, 0.01, 0.001):
        noise = 4.0 * math.sqrt(level / p.size)
        assert level * 0.95 - noise < np.mean(p <= level) < level + noise


@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
@example(0, 187)  # a head, and statistics left of the lattice of the rest
@settings(max_examples=40, deadline=None)
def test_monotone_bracketed_and_within_range(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    evidence = rng.standard_t(1.5, n) * rng.integers(0, 2, n)
    reach = np.abs(evidence).sum() + 1.0
    x = np.sort(np.concatenate([rng.uniform(-1.1 * reach, 1.1 * reach, 60), [0.0, -np.inf, np.inf]]))
    low, high = RademacherTail(evidence).bracket(x)
    assert np.all(np.diff(high) <= 0.0) and np.all(np.diff(low) <= 0.0)
    assert np.all(low <= high) and np.all(high > 0.0) and np.all(high <= 1.0) and np.all(low >= 0.0)
    # S and -S have one distribution: P(S ≥ x) + P(S ≥ -x) ≥ 1 for every x.
    assert np.all(RademacherTail(evidence).pvalue(-x) + high >= 1.0 - 1e-12)


@pytest.mark.parametrize("n,at_1e3,at_1e6", [(64, 1.02, 1.03), (512, 1.06, 1.1), (2048, 1.25, 1.45)])
def test_the_bracket_is_as_narrow_as_documented(n: int, at_1e3: float, at_1e6: float) -> None:
    evidence = np.abs(np.random.default_rng(n).normal(size=n))
    low, high = RademacherTail(evidence).bracket(np.linspace(0.0, evidence.sum(), 4_001))
    for p, widest in ((1e-3, at_1e3), (1e-6, at_1e6)):
        i = int(np.searchsorted(-high, -p))
        assert high[i] / low[i] < widest


def test_invariant_to_sign_order_and_scale() -> None:
    rng = np.random.default_rng(3)
    evidence = rng.normal(size=128)
    x = np.linspace(-3.0, 8.0, 50) * np.linalg.norm(evidence)
    p = RademacherTail(evidence).pvalue(x)
    np.testing.assert_array_equal(RademacherTail(-evidence[::-1]).pvalue(x), p)
    np.testing.assert_array_equal(RademacherTail(np.append(evidence, np.zeros(70))).pvalue(x), p)
    for scale in (2.0**-990, 2.0**900):
        np.testing.assert_allclose(RademacherTail(evidence * scale).pvalue(x * scale), p, rtol=1e-9)


@pytest.mark.parametrize("evidence", [np.zeros(512), np.zeros(0)])
def test_no_evidence_gives_p_one(evidence: np.ndarray) -> None:
    assert RademacherTail(evidence).pvalue(0.0) == 1.0
    np.testing.assert_array_equal(RademacherTail(evidence).pvalue([-1.0, 0.0, 1.0]), [1.0, 1.0, 1.0])
    assert hoeffding_bound(evidence, 3.0) == 1.0


def test_shapes_follow_the_statistic() -> None:
    tail = RademacherTail(np.ones(30))
    assert np.shape(tail.pvalue(3.0)) == ()
    assert tail.pvalue(np.zeros((2, 3))).shape == (2, 3)
    assert tail.pvalue([]).shape == (0,)


def test_thousands_of_entries() -> None:
    evidence = np.abs(np.random.default_rng(8).normal(size=4096))
    low, high = RademacherTail(evidence).bracket(np.linalg.norm(evidence) * np.array([0.0, 3.0, 40.0]))
    assert 0.5 <= high[0] < 0.53 and 1.3e-3 < high[1] < 2e-3 and 0.0 <= low[2] <= high[2] < 1e-250


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf], np.zeros((2, 2)), 1.0, np.ones(MAX_ENTRIES + 1)])
def test_bad_evidence_is_refused(bad: object) -> None:
    with pytest.raises(InvalidInput, match="Evidence"):
        RademacherTail(bad)  # type: ignore[arg-type]


def test_nan_statistic_is_refused() -> None:
    with pytest.raises(InvalidInput, match="NaN"):
        RademacherTail([1.0, 2.0]).pvalue([0.0, np.nan])


def test_hoeffding_is_above_the_tail() -> None:
    evidence = np.random.default_rng(4).normal(size=100)
    x = np.linspace(-5.0, 12.0, 60) * np.linalg.norm(evidence)
    low, _ = RademacherTail(evidence).bracket(x)
    bound = hoeffding_bound(evidence, x)
    assert np.all(bound >= low) and np.all(bound[x <= 0] == 1.0)
    assert bound[-1] == pytest.approx(math.exp(-72.0), rel=1e-9)
