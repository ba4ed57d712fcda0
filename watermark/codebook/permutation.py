"""A keyed permutation of payloads: the payload code is public and linear, and without the permutation whoever knows one codeword and its
payload could write any other payload. With it he cannot choose which payload he forges (docs/secret-safety.md).

A Feistel network with HMAC-SHA256 as round function (Luby and Rackoff, SIAM J. Comput. 17:2, 1988), alternating between the
halves as FF1 does (NIST SP 800-38G), with its ten rounds; the halves of an odd number of bits differ by one bit.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

ROUNDS = 10


def permute(secret: bytes, context: bytes, value: int, bits: int) -> int:
    """The image of `value` (0 … 2^bits - 1) under the permutation that `secret` and `context` choose."""
    return _network(secret, context, value, bits, range(ROUNDS))


def unpermute(secret: bytes, context: bytes, value: int, bits: int) -> int:
    """The inverse of `permute`."""
    return _network(secret, context, value, bits, reversed(range(ROUNDS)))


def _network(secret: bytes, context: bytes, value: int, bits: int, rounds: Iterable[int]) -> int:
    low_bits = bits // 2
    high, low = value >> low_bits, value & ((1 << low_bits) - 1)
    for number in rounds:
        # Each round changes one half by a function of the other, so the same rounds backwards undo it.
        if number % 2 == 0:
            high ^= _round(secret, context, number, low) & ((1 << (bits - low_bits)) - 1)
        else:
            low ^= _round(secret, context, number, high) & ((1 << low_bits) - 1)
    return high << low_bits | low


def _round(secret: bytes, context: bytes, number: int, half: int) -> int:
    message = context + number.to_bytes(4, "big") + half.to_bytes(8, "big")
    return int.from_bytes(hmac.digest(secret, message, "sha256")[:8], "big")
