"""Codewords: against an independent implementation, frozen values, and what a random sign must look like."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.codebook.codewords import codeword, payload_of
from watermark.codebook.keys import IssuerKey
from watermark.codebook.payload_code import payload_code
from watermark.codebook.permutation import permute
from watermark.errors import InvalidInput

KEY = IssuerKey("demo", bytes(range(32)), payload_bits=12)
FROZEN = [
    (
        0,
        0,
        "22c2bf15d3ebc43bb642c94b09008adb0f3acab23cc21b9cf8730cb89a0b6219286670bafab047e2726a081757d544eded0a7266ddfa271d5eeaaa191e08d346",
    ),
    (
        5,
        3,
        "23c1e473a298f0e95a2e5985d4066a4bd07c3d1b1cc508806a3b77f5a43d17d123ca1586fbb213b2dfc62704fc64a548505c2815266a6838be6cddc175abf54b",
    ),
    (
        4095,
        15,
        "eae2a7cde6c873ca9575542f5e171a3daf9f5e4c81cf20b4e5d4fd21b0a8dd670484d2f4033d1dff56a845f3a0f938c8ff6c137da13407cb30313885d9f58420",
    ),
]


def hmac_sha256(secret: bytes, message: bytes) -> bytes:
    """RFC 2104 spelled out, sharing no code with the implementation."""
    padded = secret.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).digest()


def reference(key: IssuerKey, nonce: int, n: int) -> list[int]:
    """The mask of an issuer without payload in the first format, of one with payload in the second."""
    domain, name = b"countersign/codeword/2" if key.payload_bits else b"countersign/codeword/1", key.name.encode()
    message = struct.pack(">I", len(domain)) + domain + struct.pack(">I", len(name)) + name
    message += struct.pack(">I", nonce) if key.payload_bits else struct.pack(">II", 0, nonce)
    stream = b"".join(hmac_sha256(key.secret, message + struct.pack(">I", block)) for block in range(n // 256 + 1))
    return [1 if stream[i // 8] >> (7 - i % 8) & 1 else -1 for i in range(n)]


@given(
    secret=st.binary(min_size=32, max_size=32),
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
    nonce=st.integers(0, 255),
    n=st.integers(1, 1100),
)
def test_a_mask_equals_an_independent_implementation(secret: bytes, name: str, nonce: int, n: int) -> None:
    signs = codeword(IssuerKey(name, secret), 0, nonce, 8, n)
    assert signs.dtype == np.int8 and signs.shape == (n,)
    assert signs.tolist() == reference(IssuerKey(name, secret), nonce, n)


@pytest.mark.parametrize(("payload", "nonce"), [(0, 0), (5, 3), (4095, 15)])
def test_a_payload_multiplies_the_mask_by_its_code(payload: int, nonce: int) -> None:
    mask = np.array(reference(KEY, nonce, 512))
    value = permute(KEY.secret, _payload_context("demo", nonce), payload, 12)
    assert np.array_equal(codeword(KEY, payload, nonce, 4, 512), mask * payload_code(12, 512).encode([value])[0])
    assert payload_of(KEY, nonce, value) == payload


def _payload_context(name: str, nonce: int) -> bytes:
    domain = b"countersign/payload/1"
    return struct.pack(">I", len(domain)) + domain + struct.pack(">I", len(name)) + name.encode() + struct.pack(">I", nonce)


def test_frozen_value_of_an_issuer_without_payload() -> None:
    """As in the first release."""
    signs = codeword(IssuerKey("demo", KEY.secret), 0, 0, 4, 512)
    assert np.packbits(signs > 0).tobytes().hex().startswith("524d4af38702afa27927c3beda0510945151acde05ae75809a8a34e6f2bf2162")


@pytest.mark.parametrize(("payload", "nonce", "expected"), FROZEN)
def test_frozen_values(payload: int, nonce: int, expected: str) -> None:
    """These never change: a text marked by one release is verified by all later ones."""
    assert np.packbits(codeword(KEY, payload, nonce, 4, 512) > 0).tobytes().hex() == expected


def test_a_longer_mask_begins_with_the_shorter() -> None:
    key = IssuerKey("demo", KEY.secret)
    assert np.array_equal(codeword(key, 0, 2, 4, 1000)[:300], codeword(key, 0, 2, 4, 300))


def test_every_part_of_the_message_matters() -> None:
    other_secret = IssuerKey("demo", bytes(32), 12)
    other_name = IssuerKey("demo2", KEY.secret, 12)
    words = [codeword(KEY, p, q, 4, 512) for p in range(4) for q in range(4)]
    words += [codeword(other_secret, 0, 0, 4, 512), codeword(other_name, 0, 0, 4, 512)]
    overlap = np.abs(np.stack(words).astype(int) @ np.stack(words).astype(int).T - 512 * np.eye(len(words), dtype=int))
    assert overlap.max() < 6 * np.sqrt(512)  # two random sign vectors of 512 overlap by less than 6 deviations


def test_signs_are_balanced_and_independent() -> None:
    """Over keys: a codeword with a payload is as good a row of coins as its mask."""
    rng = np.random.default_rng(0)
    rows = 2**12
    signs = np.stack([codeword(IssuerKey("k", rng.bytes(32), 8), 7, 1, 4, 256) for _ in range(rows)]).astype(np.float64)
    assert abs(signs.mean()) < 5 / np.sqrt(signs.size)
    assert np.abs(signs.mean(axis=0)).max() < 5 / np.sqrt(rows)  # no slot leans to one side
    correlation = signs.T @ signs / rows - np.eye(256)
    assert np.abs(correlation).max() < 6.5 / np.sqrt(rows)  # nor do two slots move together (33,000 pairs)


@pytest.mark.parametrize(
    ("payload", "nonce", "nonce_bits", "n", "word"),
    [
        (4096, 0, 4, 8, "payload"),
        (-1, 0, 4, 8, "payload"),
        (0, 16, 4, 8, "nonce"),
        (0, -1, 4, 8, "nonce"),
        (0, 0, 17, 8, "nonce_bits"),
        (0, 0, -1, 8, "nonce_bits"),
        (0, 0, 4, 0, "signs"),
        (0, 0, 4, 2**16 + 1, "signs"),
    ],
)
def test_values_out_of_range_are_named(payload: int, nonce: int, nonce_bits: int, n: int, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        codeword(KEY, payload, nonce, nonce_bits, n)
