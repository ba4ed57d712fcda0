from __future__ import annotations

import numpy as np
import pytest

from watermark.calibration.power import SUFFICIENT, Power
from watermark.statistics.correction import best_of

POWER = Power((10, 20, 40), np.array([[1.0, 4.0, 8.0], [2.0, 5.0, 20.0], [0.5, 6.0, 30.0], [3.0, 7.0, 40.0]], dtype=np.float32))
ONE = {"false_positive_rate": 1e-3, "payload_bits": 0, "units": 1}


def test_the_share_found_at_measured_lengths_and_between() -> None:
    assert [POWER.expected_detection(t, **ONE) for t in (10, 20, 40)] == [0.0, 1.0, 1.0]
    assert POWER.expected_detection(15, **ONE) == pytest.approx(0.5)
    assert POWER.expected_detection(0, **ONE) == 0.0 and POWER.expected_detection(10_000, **ONE) == 1.0


@pytest.mark.parametrize(("bits", "units"), [(0, 16), (8, 16), (64, 256)])
def test_it_is_what_the_correction_would_say(bits: int, units: int) -> None:
    for column, tokens in enumerate(POWER.lengths):
        found = [best_of(10.0 ** -float(e), payload_bits=bits, units=units) < 1e-3 for e in POWER.exponents[:, column]]
        assert POWER.expected_detection(tokens, false_positive_rate=1e-3, payload_bits=bits, units=units) == np.mean(found)


def test_enough_tokens() -> None:
    tokens = POWER.sufficient_tokens(**ONE)
    assert tokens is not None
    assert POWER.expected_detection(tokens, **ONE) >= SUFFICIENT > POWER.expected_detection(tokens - 1, **ONE)
    assert POWER.sufficient_tokens(false_positive_rate=1e-3, payload_bits=64, units=16) is None
