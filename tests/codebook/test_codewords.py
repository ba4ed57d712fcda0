"""Codewords: against an independent implementation, frozen values, and what a random sign must look like."""

from __future__ import annotations

import hashlib
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.codebook.codewords import MAX_CANDIDATES, Candidate, Codebook, codeword
from watermark.codebook.keys import IssuerKey
from watermark.errors import InvalidInput

KEY = IssuerKey("demo", bytes(range(32)), payload_bits=12)


def hmac_sha256(secret: bytes, message: bytes) -> bytes:
    """RFC 2104 spelled out, sharing no code with the implementation."""
    padded = secret.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).digest()


def reference(key: IssuerKey, payload: int, nonce: int, n: int) -> list[int]:
    domain, name = b"countersign/codeword/1", key.name.encode()
    message = struct.pack(">I", len(domain)) + domain + struct.pack(">I", len(name)) + name + struct.pack(">II", payload, nonce)
    stream = b"".join(hmac_sha256(key.secret, message + struct.pack(">I", block)) for block in range(n // 256 + 1))
    return [1 if stream[i // 8] >> (7 - i % 8) & 1 else -1 for i in range(n)]


@given(
    secret=st.binary(min_size=32, max_size=32),
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
    payload=st.integers(0, 2**16 - 1),
    nonce=st.integers(0, 255),
    n=st.integers(1, 1100),
)
def test_equals_an_independent_implementation(secret: bytes, name: str, payload: int, nonce: int, n: int) -> None:
    signs = codeword(IssuerKey(name, secret, 16), payload, nonce, 8, n)
    assert signs.dtype == np.int8 and signs.shape == (n,)
    assert signs.tolist() == reference(IssuerKey(name, secret, 16), payload, nonce, n)


@pytest.mark.parametrize(
    ("payload", "nonce", "expected"),
    [
        (
            0,
            0,
            "524d4af38702afa27927c3beda0510945151acde05ae75809a8a34e6f2bf2162e36ac5c88d956aa0d1d35b1a6a885445a4c635ed082769274d3ef6fc844cbccf",
        ),
        (
            5,
            3,
            "5f82f220ffc2eae7162672d870dae4ee23b21712db0ee670337908b4e597b671df755198e35cf350f28a2fa092f4ea16729518f8a926a065e86c1276516f20b0",
        ),
        (
            4095,
            15,
            "53bae82c326a40e2e0c72ad5f26ed6818f827d6c7cc0ac5cb666e83164c39d44a5e53bde7cdfac4400bd98e967cc2bc53167bc49a926a1e2496856c045126b68",
        ),
    ],
)
def test_frozen_values(payload: int, nonce: int, expected: str) -> None:
    """These never change: a text marked by one release is verified by all later ones."""
    assert np.packbits(codeword(KEY, payload, nonce, 4, 512) > 0).tobytes().hex() == expected


def test_a_longer_codeword_begins_with_the_shorter() -> None:
    assert np.array_equal(codeword(KEY, 1, 2, 4, 1000)[:300], codeword(KEY, 1, 2, 4, 300))


def test_every_part_of_the_message_matters() -> None:
    other_secret = IssuerKey("demo", bytes(32), 12)
    other_name = IssuerKey("demo2", KEY.secret, 12)
    words = [codeword(KEY, p, q, 4, 512) for p in range(4) for q in range(4)]
    words += [codeword(other_secret, 0, 0, 4, 512), codeword(other_name, 0, 0, 4, 512)]
    overlap = np.abs(np.stack(words).astype(int) @ np.stack(words).astype(int).T - 512 * np.eye(len(words), dtype=int))
    assert overlap.max() < 6 * np.sqrt(512)  # two random sign vectors of 512 overlap by less than 6 deviations


def test_signs_are_balanced_and_independent() -> None:
    signs = np.concatenate([chunk for _, chunk in Codebook([KEY], 2, 512).chunks(4096)]).astype(np.float64)
    rows = len(signs)  # 2^14
    assert abs(signs.mean()) < 5 / np.sqrt(signs.size)
    assert np.abs(signs.mean(axis=0)).max() < 5 / np.sqrt(rows)  # no slot leans to one side
    correlation = signs.T @ signs / rows - np.eye(512)
    assert np.abs(correlation).max() < 6.5 / np.sqrt(rows)  # nor do two slots move together (131,000 pairs)


def test_codebook_is_the_codewords_in_order_whatever_the_chunk_size() -> None:
    keys = [IssuerKey("a", bytes([1]) * 32, 2), IssuerKey("b", bytes([2]) * 32), IssuerKey("c", bytes([3]) * 32, 1)]
    book = Codebook(keys, nonce_bits=2, n=40)
    assert len(book) == 16 + 4 + 8
    by_name = {key.name: key for key in keys}
    candidates = [book.candidate(i) for i in range(len(book))]
    assert candidates[:2] == [Candidate("a", 0, 2, 0), Candidate("a", 0, 2, 1)]
    assert candidates[16] == Candidate("b", 0, 0, 0) and candidates[27] == Candidate("c", 1, 1, 3)
    expected = np.stack([codeword(by_name[c.issuer], c.payload, c.nonce, 2, 40) for c in candidates])
    for size in (1, 3, 16, 17, 1000):
        firsts, chunks = zip(*book.chunks(size), strict=True)
        assert list(firsts) == list(range(0, 28, size))
        assert all(len(chunk) <= size and chunk.dtype == np.int8 for chunk in chunks)
        assert np.array_equal(np.concatenate(chunks), expected)


def test_candidate_out_of_range() -> None:
    book = Codebook([KEY], 0, 8)
    for index in (-1, len(book)):
        with pytest.raises(IndexError):
            book.candidate(index)


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


def test_codebooks_that_cannot_be() -> None:
    big = [IssuerKey(name, bytes(32), 16) for name in ("x", "y")]
    assert len(Codebook(big[:1], 4, 512)) == MAX_CANDIDATES
    with pytest.raises(InvalidInput, match="2,097,152 candidates"):
        Codebook(big, 4, 512)
    with pytest.raises(InvalidInput, match="No issuer keys"):
        Codebook([], 4, 512)
    with pytest.raises(InvalidInput, match="twice: demo"):
        Codebook([KEY, KEY], 4, 512)
    with pytest.raises(InvalidInput, match="size"):
        next(Codebook([KEY], 4, 512).chunks(0))


def test_a_codebook_of_65536_is_quick() -> None:
    """0.25 s on an idle core; the bound only has to catch an implementation of another order."""
    book = Codebook([KEY], 4, 512)
    start = time.process_time()
    rows = sum(len(chunk) for _, chunk in book.chunks(16_384))
    assert rows == 65_536 and time.process_time() - start < 3.0
