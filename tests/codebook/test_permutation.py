from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.codebook.permutation import permute, unpermute


@pytest.mark.parametrize("bits", [1, 2, 3, 8, 11])
def test_it_is_a_permutation(bits: int) -> None:
    images = [permute(bytes(32), b"context", value, bits) for value in range(2**bits)]
    assert sorted(images) == list(range(2**bits))


@given(secret=st.binary(min_size=32, max_size=32), bits=st.integers(1, 64), value=st.integers(0, 2**64 - 1))
def test_it_is_undone(secret: bytes, bits: int, value: int) -> None:
    value %= 2**bits
    assert unpermute(secret, b"c", permute(secret, b"c", value, bits), bits) == value


def test_secret_and_context_choose_it() -> None:
    values = range(256)
    one = [permute(bytes(32), b"a", v, 16) for v in values]
    assert one != [permute(bytes(32), b"b", v, 16) for v in values]
    assert one != [permute(bytes([1]) * 32, b"a", v, 16) for v in values]
    flips = sum((permute(bytes(32), b"a", v, 16) ^ permute(bytes(32), b"a", v ^ 1, 16)).bit_count() for v in values)
    assert 0.4 < flips / (256 * 16) < 0.6  # neighbours land far apart
