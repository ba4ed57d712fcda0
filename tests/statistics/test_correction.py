from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.errors import InvalidInput
from watermark.statistics.correction import sidak


@given(st.floats(-300.0, 0.0).map(lambda exponent: 10.0**exponent), st.integers(1, 2**20))
def test_against_high_precision_and_bonferroni(p: float, k: int) -> None:
    corrected = sidak(p, k)
    with mpmath.workdps(350):
        truth = 1 - (1 - mpmath.mpf(p)) ** k
        assert abs(corrected - truth) <= truth * mpmath.mpf("1e-12")
    assert 0.0 < corrected <= 1.0
    assert corrected >= p * (1 - 1e-12) and corrected <= k * p * (1 + 1e-12)


def test_best_of_many_uniform_p_values_is_uniform_again() -> None:
    best = np.random.default_rng(0).uniform(size=(20_000, 16)).min(axis=1)
    corrected = np.array([sidak(float(p), 16) for p in best])
    assert abs(np.mean(corrected <= 0.1) - 0.1) < 0.01


@pytest.mark.parametrize("p,k", [(0.0, 1), (-0.1, 1), (1.1, 1), (float("nan"), 1), (0.5, 0)])
def test_refusals(p: float, k: int) -> None:
    with pytest.raises(InvalidInput):
        sidak(p, k)
