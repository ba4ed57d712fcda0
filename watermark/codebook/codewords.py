"""From an issuer's secret to the signs of a codeword: a mask for each nonce, times the payload's code.

    codeword(issuer, payload, nonce) = mask(issuer, nonce) · code(π(payload)),        π the issuer's permutation for that nonce

Block b of a mask is HMAC-SHA256(secret, M ‖ b) with

    M = field("countersign/codeword/2") ‖ field(issuer, UTF-8) ‖ nonce,      field(x) = length of x ‖ x

and every number (lengths, nonce, b) 4 bytes, big-endian: fixed lengths and length prefixes make M unambiguous, and the first field
keeps masks apart from any other use of the secret. The bits of block 0, then block 1, …, each byte from its highest bit, are
the signs: 1 is +1, 0 is -1. A longer mask begins with the shorter one. Issuers without payload keep the format of the first release,
so that what they marked stays verifiable: "countersign/codeword/1" in the first field and four zero bytes before the nonce.
The permutation (`permutation`) has the context field("countersign/payload/1") ‖ field(issuer) ‖ nonce.

To anybody without the secret a mask is a row of fair coins, and so is each codeword of an issuer, whatever the payload.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from watermark.codebook.keys import IssuerKey
from watermark.codebook.payload_code import payload_code
from watermark.codebook.permutation import permute, unpermute
from watermark.errors import InvalidInput

PLAIN_DOMAIN, MASK_DOMAIN, PAYLOAD_DOMAIN = b"countersign/codeword/1", b"countersign/codeword/2", b"countersign/payload/1"
MAX_NONCE_BITS = 16
MAX_SIGNS = 2**16
BLOCK_BITS = 256


def codeword(key: IssuerKey, payload: int, nonce: int, nonce_bits: int, n: int) -> NDArray[np.int8]:
    """The `n` signs of one (issuer, payload, nonce): int8 of ±1, shape (n,). Raises InvalidInput when a value is out of range."""
    check_sizes(nonce_bits, n)
    payload, nonce = int(payload), int(nonce)  # numpy integers are welcome too
    if not 0 <= payload < 2**key.payload_bits:
        raise InvalidInput(f"payload {payload:#x} does not fit the {key.payload_bits} payload bits of issuer {key.name!r}.")
    if not 0 <= nonce < 2**nonce_bits:
        raise InvalidInput(f"nonce {nonce} does not fit {nonce_bits} bits.")
    mask = unpack_signs(masks(key, [nonce], n), n)[0]
    if not key.payload_bits:
        return mask
    code = payload_code(key.payload_bits, n)
    return mask * code.encode([permute(key.secret, _context(PAYLOAD_DOMAIN, key, nonce), payload, key.payload_bits)])[0]


def payload_of(key: IssuerKey, nonce: int, value: int) -> int:
    """The payload whose code word `value` was sent with this nonce: the inverse of the permutation in `codeword`."""
    return unpermute(key.secret, _context(PAYLOAD_DOMAIN, key, nonce), value, key.payload_bits)


def masks(key: IssuerKey, nonces: Sequence[int], n: int) -> NDArray[np.uint8]:
    """Masks of these nonces, packed eight signs to a byte: uint8 (len(nonces), ceil(n / 8))."""
    domain = _context(MASK_DOMAIN, key) if key.payload_bits else _context(PLAIN_DOMAIN, key, 0)
    keyed = hmac.new(key.secret, domain, "sha256")  # copies of it skip the key schedule and the shared bytes
    counters = [block.to_bytes(4, "big") for block in range(-(-n // BLOCK_BITS))]
    blocks: list[bytes] = []
    for nonce in nonces:
        message = nonce.to_bytes(4, "big")
        for counter in counters:
            block = keyed.copy()
            block.update(message + counter)
            blocks.append(block.digest())
    return np.frombuffer(b"".join(blocks), dtype=np.uint8).reshape(len(nonces), -1)[:, : -(-n // 8)]


def unpack_signs(packed: NDArray[np.uint8], n: int) -> NDArray[np.int8]:
    """Packed masks (m, ceil(n / 8)) as int8 of ±1, shape (m, n)."""
    return np.unpackbits(packed, axis=1, count=n).view(np.int8) * np.int8(2) - np.int8(1)


def check_sizes(nonce_bits: int, n: int) -> None:
    if not 0 <= nonce_bits <= MAX_NONCE_BITS:
        raise InvalidInput(f"nonce_bits must be 0 … {MAX_NONCE_BITS}; got {nonce_bits!r}.")
    if not 1 <= n <= MAX_SIGNS:
        raise InvalidInput(f"A codeword has 1 … {MAX_SIGNS} signs; got {n!r}.")


def _context(domain: bytes, key: IssuerKey, number: int | None = None) -> bytes:
    name = key.name.encode()
    fields = len(domain).to_bytes(4, "big") + domain + len(name).to_bytes(4, "big") + name
    return fields if number is None else fields + number.to_bytes(4, "big")
