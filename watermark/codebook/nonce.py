"""The nonce of a generation: which of an issuer's masks it uses."""

from __future__ import annotations

import hmac

from watermark.codebook.keys import IssuerKey

DOMAIN = b"countersign/nonce/1"


def nonce_for(key: IssuerKey, seed: int, nonce_bits: int) -> int:
    """A nonce that follows from the request's seed, for whoever has the secret: HMAC-SHA256(secret, domain ‖ seed, 8 bytes).

    Seeds are returned to callers, so a rule without the secret would tell them which of their texts share a mask.
    """
    digest = hmac.digest(key.secret, DOMAIN + seed.to_bytes(8, "big"), "sha256")
    return int.from_bytes(digest[:4], "big") % 2**nonce_bits
