from __future__ import annotations

import numpy as np
import pytest

from watermark.statistics.rademacher import RademacherTail
from watermark.statistics.saddlepoint import log_tails


@pytest.mark.parametrize("shape", ["normal", "heavy", "uniform"])
@pytest.mark.parametrize("z", [3.0, 6.0, 12.0])
def test_estimates_are_near_the_exact_tail(shape: str, z: float) -> None:
    """Near enough to say which of two windows has the smaller p-value where a third of it is at stake."""
    rng = np.random.default_rng(1)
    rows = {"normal": rng.normal(size=(3, 600)), "heavy": rng.standard_t(4, (3, 600)), "uniform": rng.uniform(size=(3, 600))}[shape]
    statistics = z * np.linalg.norm(rows, axis=1)
    brackets = [RademacherTail(row).bracket(s) for row, s in zip(rows, statistics, strict=True)]
    estimate = log_tails(rows, statistics)
    assert np.all(estimate > [np.log(float(low)) - 0.2 for low, _ in brackets])
    assert np.all(estimate < [np.log(float(high)) + 0.2 for _, high in brackets])


def test_estimates_are_finite_at_the_ends() -> None:
    rows = np.array([np.ones(50), np.ones(50), np.eye(50)[0]])
    assert np.isfinite(log_tails(rows, np.array([50.0, 0.0, 1.0]))).all()
