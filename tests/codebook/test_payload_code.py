"""Payloads as signs: linear, checked, and read back through noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark.codebook.payload_code import CHECK_BITS, CHECK_POLYNOMIAL, PayloadCode, payload_code
from watermark.errors import InvalidInput


@given(bits=st.integers(1, 64), a=st.integers(0, 2**64 - 1), b=st.integers(0, 2**64 - 1), n=st.sampled_from([128, 200, 1024]))
@settings(max_examples=30)
def test_the_code_is_linear(bits: int, a: int, b: int, n: int) -> None:
    a, b = a % 2**bits, b % 2**bits
    first, second, both, none = payload_code(bits, n).encode([a, b, a ^ b, 0]).astype(int)
    assert np.array_equal(first * second, both) and (none == 1).all()
    assert set(np.unique(first)) <= {-1, 1}


def test_the_checksum_is_the_remainder_by_its_polynomial() -> None:
    """Schoolbook division, sharing no code with the implementation."""
    code = PayloadCode(16, 256)
    for value in (1, 2, 0x1234, 0xFFFF):
        remainder = [int(c) for c in f"{value:016b}" + "0" * CHECK_BITS]
        divisor = [int(c) for c in f"{CHECK_POLYNOMIAL:b}"]
        for i in range(16):
            if remainder[i]:
                for j, d in enumerate(divisor):
                    remainder[i + j] ^= d
        bits = np.array([int(c) for c in f"{value:016b}"])
        assert (bits @ code._checks % 2).tolist() == remainder[16:]


@pytest.mark.parametrize(("bits", "n"), [(1, 16), (8, 128), (16, 300), (64, 1024), (64, 72)])
def test_noiseless_messages_come_back(bits: int, n: int) -> None:
    code = payload_code(bits, n)
    rng = np.random.default_rng(bits)
    for value in [0, 2**bits - 1, *(int(rng.integers(0, 2**bits, dtype=np.uint64)) for _ in range(5))]:
        values, rows = code.decode(code.encode([value]).astype(np.float32) * 8.0)
        assert value in values and set(rows.tolist()) == {0}


def test_a_long_message_through_strong_noise() -> None:
    """Three eighths of a standard deviation per sign, about what a text of 200 tokens gives: z = 12, where 64 bits need 9 to 10."""
    code, rng = payload_code(64, 1024), np.random.default_rng(0)
    right = 0
    for _ in range(40):
        value = int(rng.integers(0, 2**64, dtype=np.uint64))
        received = code.encode([value])[0] * 3 / 8 + rng.normal(size=1024)
        values, _ = code.decode((3 / 4 * received).astype(np.float32)[None])
        best = max(values, key=lambda v: float(code.encode([v])[0] @ received), default=None)
        right += best == value
    assert right >= 38


def test_noise_alone_leaves_no_or_wrong_messages_but_no_error() -> None:
    values, rows = payload_code(32, 1024).decode(np.random.default_rng(0).normal(size=(3, 1024)).astype(np.float32))
    assert len(values) == len(rows) and all(0 <= v < 2**32 for v in values)


@pytest.mark.parametrize(("bits", "n"), [(1, 16), (4, 64), (5, 64), (9, 100)])
def test_statistics_are_those_of_every_payload(bits: int, n: int) -> None:
    code, evidence = PayloadCode(bits, n), np.random.default_rng(bits).normal(size=(3, n))
    np.testing.assert_allclose(code.statistics(evidence), evidence @ code.encode(range(2**bits)).T, atol=1e-4)


def test_messages_keep_their_distance() -> None:
    """No two of 65,536 payloads share three quarters of their signs."""
    weights = payload_code(16, 1024).statistics(np.ones((1, 1024)))  # with payload 0's signs, which by linearity stand for all pairs
    assert np.sort(weights.ravel())[-2] <= 512


def test_a_payload_that_does_not_fit() -> None:
    with pytest.raises(InvalidInput, match="64 bits needs codewords of at least 72 signs"):
        PayloadCode(64, 71)
