from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.errors import InvalidInput
from watermark.statistics.correction import best_of, bonferroni, sidak

SMALL = st.floats(-300.0, 0.0).map(lambda exponent: 10.0**exponent)


@given(SMALL, st.integers(1, 2**20))
def test_against_high_precision_and_bonferroni(p: float, k: int) -> None:
    corrected = sidak(p, k)
    with mpmath.workdps(350):
        truth = 1 - (1 - mpmath.mpf(p)) ** k
        assert abs(corrected - truth) <= truth * mpmath.mpf("1e-12")
    assert 0.0 < corrected <= 1.0
    assert corrected >= p * (1 - 1e-12) and corrected <= bonferroni(p, k) * (1 + 1e-12)


@given(SMALL, st.integers(1, 2**80))
def test_bonferroni_beyond_the_range_of_integers(p: float, k: int) -> None:
    assert bonferroni(p, k) == pytest.approx(min(1.0, float(k) * p), rel=1e-11)


@given(SMALL, st.integers(0, 64), st.integers(1, 2**16))
def test_best_of_a_book(p: float, bits: int, units: int) -> None:
    found = best_of(p, payload_bits=bits, units=units)
    assert p * (1 - 1e-9) <= found <= min(1.0, 2.0**bits * units * p) * (1 + 1e-9)
    assert best_of(p, payload_bits=0, units=units) == pytest.approx(sidak(p, units), rel=1e-11)


def test_best_of_many_uniform_p_values_is_uniform_again() -> None:
    best = np.random.default_rng(0).uniform(size=(20_000, 16)).min(axis=1)
    corrected = np.array([sidak(float(p), 16) for p in best])
    assert abs(np.mean(corrected <= 0.1) - 0.1) < 0.01


@pytest.mark.parametrize("correct", [sidak, bonferroni])
@pytest.mark.parametrize("p,k", [(0.0, 1), (-0.1, 1), (1.1, 1), (float("nan"), 1), (0.5, 0)])
def test_refusals(correct, p: float, k: int) -> None:
    with pytest.raises(InvalidInput):
        correct(p, k)
