"""Payloads as signs: a polar code over all signs of a codeword, with a checksum inside, and its two decoders.

The payload's bits and a CRC of `CHECK_BITS` (the 8-bit one of 3GPP TS 25.212, 4.2.1) are the free inputs of a polar code of
at least n outputs; surplus outputs, the first ones, are not sent and the inputs that they alone would have carried are frozen
(Niu, Chen and Lin, ICC 2013). The outputs are spread over the signs in a fixed order, because neighbouring signs (the slots of
one round) tend to be read well or badly together. The code is linear: the sign vectors of a ⊕ b is the product of those of a and b.

Small payloads are decoded exhaustively, all others by a list; the checksum then tells the sent message from likely neighbours.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from watermark.codebook.polar import Bits, Floats, ListDecoder, reliability_order, transform
from watermark.errors import InvalidInput

CHECK_BITS = 8
CHECK_POLYNOMIAL = 0b1_1001_1011
"""D^8 + D^7 + D^4 + D^3 + D + 1, its highest term included. Shorter or longer checks recover fewer messages (docs/experiments.md)."""
RADIX_BITS = 4
PATHS = 1024
"""Length of the decoder's list: with a quarter of it, hardly fewer messages are recovered."""


class PayloadCode:
    """The code for payloads of `bits` bits (at least 1) in `n` signs. Raises InvalidInput when they do not fit."""

    def __init__(self, bits: int, n: int) -> None:
        self.bits, self.n = bits, n
        inputs = bits + CHECK_BITS
        if inputs > n:
            raise InvalidInput(f"A payload of {bits} bits needs codewords of at least {inputs} signs; these have {n}.")
        self.length = 1 << (n - 1).bit_length()
        self._unsent = self.length - n
        order = [i for i in reliability_order(self.length) if i >= self._unsent]
        self.free = np.zeros(self.length, dtype=bool)
        self.free[order[:inputs]] = True
        self._spread = _fixed_order(n)
        units = np.eye(bits, dtype=np.uint8)
        self._checks = np.array([_checksum(1 << (bits - 1 - i), bits) for i in range(bits)], dtype=np.uint8)
        self._generator = self._outputs(np.concatenate([units, self._checks], axis=1))

    def encode(self, payloads: Sequence[int]) -> NDArray[np.int8]:
        """Signs of each payload, int8 of ±1, shape (len(payloads), n); payload 0 is all +1."""
        chosen = _binary(payloads, self.bits)
        return (1 - 2 * ((chosen.astype(np.float32) @ self._generator) % 2)).astype(np.int8)

    def statistics(self, evidence: Floats) -> NDArray[np.float32]:
        """Σ s·e of every payload's signs (rows, 2^bits), for evidence (rows, n) that the mask has been taken off.

        Sign i of payload u is (-1)^<g_i, u>, so the statistics are the Walsh-Hadamard transform of the evidence, added up by columns g_i of
        the generator: bits·2^bits additions in place of n·2^bits.
        """
        rows = len(evidence)
        found = np.zeros((rows, 1 << self.bits), dtype=np.float32)
        order, begins, columns = self._columns
        found[:, columns] = np.add.reduceat(evidence[:, order].astype(np.float32), begins, axis=1)
        # Four bits at a time, as products that BLAS does: the highest bits are transformed and become the lowest, until all have been.
        for first in range(0, self.bits, RADIX_BITS):
            step = _hadamard(min(RADIX_BITS, self.bits - first))
            found = (found.reshape(rows, len(step), -1).transpose(0, 2, 1) @ step).reshape(rows, -1)
        return found

    @functools.cached_property
    def _columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The signs sorted by their column of the generator, read as a number: their order, where each column begins in it, the columns."""
        columns = (1 << np.arange(self.bits)[::-1]) @ self._generator.astype(np.int64)
        order = np.argsort(columns, kind="stable")
        distinct, begins = np.unique(columns[order], return_index=True)
        return order, begins, distinct

    def decode(self, ratios: Floats, paths: int = PATHS) -> tuple[list[int], NDArray[np.int64]]:
        """Likely payloads with a right checksum, and the row of `ratios` that each is for; both may be empty.

        ratios (rows, n): log-likelihood ratio of +1 against -1 of each sign, e.g. under each of several masks.
        """
        outputs = np.zeros((len(ratios), self.length), dtype=np.float32)
        outputs[:, self._unsent + self._spread] = ratios
        decoder = ListDecoder(self.free, paths).run(outputs)
        message, checks = decoder.bits[:, : self.bits], decoder.bits[:, self.bits :]
        right = ((message.astype(np.float32) @ self._checks) % 2 == checks).all(axis=1)
        values = [int.from_bytes(np.packbits(row).tobytes(), "big") >> (-self.bits % 8) for row in message[right]]
        return values, decoder.start[right]

    def _outputs(self, free: Bits) -> Bits:
        inputs = np.zeros((len(free), self.length), dtype=np.uint8)
        inputs[:, self.free] = free
        return transform(inputs)[:, self._unsent + self._spread]


@functools.cache
def _hadamard(bits: int) -> NDArray[np.float32]:
    return hadamard(1 << bits).astype(np.float32)


@functools.lru_cache(maxsize=16)
def payload_code(bits: int, n: int) -> PayloadCode:
    return PayloadCode(bits, n)


def _checksum(value: int, bits: int) -> list[int]:
    """Remainder of value·D^8 by the polynomial, highest bit first."""
    value <<= CHECK_BITS
    for position in reversed(range(CHECK_BITS, CHECK_BITS + bits)):
        if value >> position & 1:
            value ^= CHECK_POLYNOMIAL << (position - CHECK_BITS)
    return [value >> i & 1 for i in reversed(range(CHECK_BITS))]


def _binary(payloads: Sequence[int], bits: int) -> Bits:
    """(len, bits), the highest bit first."""
    return np.array([[value >> i & 1 for i in reversed(range(bits))] for value in payloads], dtype=np.uint8).reshape(-1, bits)


def _fixed_order(n: int) -> NDArray[np.int64]:
    """A permutation of 0 … n - 1 that is the same everywhere and for ever: sorted by hashes."""
    digest = hashlib.shake_256(b"countersign/interleaver/1").digest(8 * n)
    return np.argsort(np.frombuffer(digest, dtype=">u8"), kind="stable")
