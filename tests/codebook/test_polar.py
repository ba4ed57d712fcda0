"""The polar transform and its list decoder, against plain definitions and brute force."""

from __future__ import annotations

import itertools
from functools import reduce

import numpy as np
import pytest

from watermark.codebook.polar import ListDecoder, reliability_order, transform


@pytest.mark.parametrize("power", [0, 1, 3, 6])
def test_the_transform_is_the_kronecker_power(power: int) -> None:
    kernel = reduce(np.kron, [np.array([[1, 0], [1, 1]])] * power, np.eye(1, dtype=int))
    inputs = np.random.default_rng(power).integers(0, 2, (5, 2**power)).astype(np.uint8)
    assert np.array_equal(transform(inputs), inputs @ kernel % 2)
    assert np.array_equal(transform(transform(inputs)), inputs)  # its own inverse


def test_the_order_is_a_permutation_that_respects_what_is_known_of_every_channel() -> None:
    order = reliability_order(64)
    assert sorted(order.tolist()) == list(range(64))
    assert order[0] == 63 and order[-1] == 0
    rank = np.argsort(order)
    for i, j in itertools.product(range(64), repeat=2):
        if i & j == i and i != j:  # j has every 1 of i and more: never less reliable, on any channel
            assert rank[j] < rank[i]


@pytest.mark.parametrize("noise", [0.0, 0.8, 1.5])
def test_a_full_list_finds_the_likeliest_codeword(noise: float) -> None:
    """With as many paths as messages nothing is pruned, so the best path is the maximum-likelihood codeword."""
    rng = np.random.default_rng(0)
    free = np.zeros(32, dtype=bool)
    free[reliability_order(32)[:6]] = True
    messages = np.array(list(itertools.product([0, 1], repeat=6)), dtype=np.uint8)
    inputs = np.zeros((64, 32), dtype=np.uint8)
    inputs[:, free] = messages
    words = 1.0 - 2.0 * transform(inputs)
    for _ in range(20):
        sent = words[rng.integers(64)]
        ratios = (sent + noise * rng.normal(size=32)).astype(np.float32)
        decoder = ListDecoder(free, paths=64).run(ratios[None])
        assert np.array_equal(decoder.bits[decoder.metric.argmin()], messages[(words @ ratios).argmax()])
        # The metric is the negative log-likelihood up to a constant.
        by_path = {tuple(bits): metric for bits, metric in zip(decoder.bits.tolist(), decoder.metric, strict=True)}
        constant = [by_path[tuple(m)] + float(w @ ratios) / 2 for m, w in zip(messages.tolist(), words, strict=True)]
        assert np.ptp(constant) < 1e-4


def test_paths_that_began_elsewhere_compete_for_one_list() -> None:
    free = np.zeros(64, dtype=bool)
    free[reliability_order(64)[:8]] = True
    rng = np.random.default_rng(1)
    masks = 1.0 - 2.0 * rng.integers(0, 2, (10, 64))
    sent = np.zeros((1, 64), dtype=np.uint8)
    sent[0, free] = [1, 0, 1, 1, 0, 0, 1, 0]
    received = masks[7] * (1.0 - 2.0 * transform(sent)[0]) * 2.0
    decoder = ListDecoder(free, paths=32).run((masks * received).astype(np.float32))
    best = decoder.metric.argmin()
    assert decoder.start[best] == 7 and decoder.bits[best].tolist() == [1, 0, 1, 1, 0, 0, 1, 0]
    assert len(decoder.metric) <= 32


def test_extreme_ratios_do_no_harm() -> None:
    free = np.ones(8, dtype=bool)
    for value in (0.0, 1e30, -1e30):
        decoder = ListDecoder(free, paths=4).run(np.full((1, 8), value, dtype=np.float32))
        assert np.isfinite(decoder.metric[decoder.metric.argmin()])
