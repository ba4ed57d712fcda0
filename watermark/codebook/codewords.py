"""From an issuer's secret to signs: HMAC-SHA256 in counter mode, and the book of all codewords a verifier has to try.

Block b of a codeword is HMAC-SHA256(secret, M ‖ b) with

    M = field("countersign/codeword/1") ‖ field(issuer, UTF-8) ‖ payload ‖ nonce,      field(x) = length of x ‖ x

and every number (lengths, payload, nonce, b) 4 bytes, big-endian: fixed lengths and length prefixes make M unambiguous, and
the first field keeps codewords apart from any other use of the secret. The bits of block 0, then block 1, …, each byte from
its highest bit, are the signs: 1 is +1, 0 is -1. A longer codeword begins with the shorter one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from watermark.codebook.keys import IssuerKey
from watermark.errors import InvalidInput

DOMAIN = b"countersign/codeword/1"
MAX_CANDIDATES = 2**20
"""Decoding tries every candidate; beyond this many, a payload has to be split, which this codebook does not do."""
MAX_NONCE_BITS = 16
MAX_SIGNS = 2**16
BLOCK_BITS = 256


def codeword(key: IssuerKey, payload: int, nonce: int, nonce_bits: int, n: int) -> np.ndarray:
    """The `n` signs of one (issuer, payload, nonce): int8 of ±1, shape (n,). Raises InvalidInput when a value is out of range."""
    _check_sizes(nonce_bits, n)
    if not 0 <= payload < 2**key.payload_bits:
        raise InvalidInput(f"payload {payload:#x} does not fit the {key.payload_bits} payload bits of issuer {key.name!r}.")
    if not 0 <= nonce < 2**nonce_bits:
        raise InvalidInput(f"nonce {nonce} does not fit {nonce_bits} bits.")
    return _expand(key, [(int(payload), int(nonce))], n)[0]  # numpy integers are welcome too


@dataclass(frozen=True)
class Candidate:
    """What one codeword of a codebook stands for."""

    issuer: str
    payload: int
    payload_bits: int
    nonce: int


class Codebook:
    """Every codeword of some keys: all payloads x all nonces, in the order keys, payloads, nonces (the last runs fastest).

    Signs are computed as they are asked for: 2^20 candidates of 512 signs would fill 512 MiB.
    """

    def __init__(self, keys: Sequence[IssuerKey], nonce_bits: int, n: int) -> None:
        """Raises InvalidInput: no keys, the same name twice, sizes out of range, more than MAX_CANDIDATES candidates."""
        _check_sizes(nonce_bits, n)
        if not keys:
            raise InvalidInput("No issuer keys to try. Create one with: countersign keys create NAME")
        names = [key.name for key in keys]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInput(f"Issuer given twice: {', '.join(twice)}.")
        self.keys = tuple(keys)
        self.nonce_bits = nonce_bits
        self.n = n
        sizes = [2 ** (key.payload_bits + nonce_bits) for key in self.keys]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        if len(self) > MAX_CANDIDATES:
            raise InvalidInput(
                f"{len(self):,} candidates (issuers x payloads x nonces) are more than the {MAX_CANDIDATES:,} that can be tried "
                "exhaustively. Name fewer issuers, or use keys with fewer payload bits."
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def candidate(self, index: int) -> Candidate:
        """What row `index` of the codebook stands for. Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(f"candidate {index} of {len(self)}")
        position = int(np.searchsorted(self._starts, index, side="right")) - 1
        key = self.keys[position]
        payload, nonce = divmod(index - int(self._starts[position]), 2**self.nonce_bits)
        return Candidate(key.name, payload, key.payload_bits, nonce)

    def chunks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """All signs in order, as (index of the first row, int8 of shape (c, n)) with c at most `size`."""
        if size < 1:
            raise InvalidInput(f"size must be at least 1; got {size}.")
        for first in range(0, len(self), size):
            stop = min(first + size, len(self))
            yield first, np.concatenate([self._rows(i, first, stop) for i in self._overlapping(first, stop)])

    def _overlapping(self, first: int, stop: int) -> range:
        """The keys with rows in first … stop - 1."""
        return range(int(np.searchsorted(self._starts, first, side="right")) - 1, int(np.searchsorted(self._starts, stop, side="left")))

    def _rows(self, position: int, first: int, stop: int) -> np.ndarray:
        start, end = int(self._starts[position]), int(self._starts[position + 1])
        indices = range(max(first, start) - start, min(stop, end) - start)
        return _expand(self.keys[position], [divmod(i, 2**self.nonce_bits) for i in indices], self.n)


def _check_sizes(nonce_bits: int, n: int) -> None:
    if not 0 <= nonce_bits <= MAX_NONCE_BITS:
        raise InvalidInput(f"nonce_bits must be 0 … {MAX_NONCE_BITS}; got {nonce_bits!r}.")
    if not 1 <= n <= MAX_SIGNS:
        raise InvalidInput(f"A codeword has 1 … {MAX_SIGNS} signs; got {n!r}.")


def _expand(key: IssuerKey, messages: Sequence[tuple[int, int]], n: int) -> np.ndarray:
    """Signs of every (payload, nonce): int8 of ±1, shape (len(messages), n)."""
    name = key.name.encode()
    shared = len(DOMAIN).to_bytes(4, "big") + DOMAIN + len(name).to_bytes(4, "big") + name
    keyed = hmac.new(key.secret, shared, "sha256")  # copies of it skip the key schedule and the shared bytes
    counters = [block.to_bytes(4, "big") for block in range(-(-n // BLOCK_BITS))]
    blocks: list[bytes] = []
    for payload, nonce in messages:
        message = payload.to_bytes(4, "big") + nonce.to_bytes(4, "big")
        for counter in counters:
            block = keyed.copy()
            block.update(message + counter)
            blocks.append(block.digest())
    rows = np.frombuffer(b"".join(blocks), dtype=np.uint8).reshape(len(messages), -1)
    bits = np.unpackbits(rows, axis=1, count=n).view(np.int8)
    return bits * np.int8(2) - np.int8(1)
