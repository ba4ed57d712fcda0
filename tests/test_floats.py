from __future__ import annotations

import numpy as np

from watermark import floats
from watermark.floats import single, summed


def test_every_half_precision_number_keeps_its_value() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    for rows in (every, every[::-1], every[:, 3:9], every[:0]):  # as they lie in memory, backwards, cut out, none
        widened = single(rows)
        assert widened.dtype == np.float32 and widened.shape == rows.shape
        np.testing.assert_array_equal(widened, rows.astype(np.float32))
    wide = np.ones((2, 3), dtype=np.float32)
    assert single(wide) is wide


def test_sums_do_not_depend_on_where_the_blocks_end(monkeypatch) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float16)
    whole = summed(rows)
    monkeypatch.setattr(floats, "BLOCK", 7)
    np.testing.assert_array_equal(summed(rows), whole)
    np.testing.assert_array_equal(whole, rows.sum(axis=0, dtype=np.float64))
    assert summed(rows[:0]).tolist() == [0.0] * 8
