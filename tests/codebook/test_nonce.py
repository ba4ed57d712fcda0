from __future__ import annotations

from collections import Counter

from watermark.codebook.keys import IssuerKey
from watermark.codebook.nonce import nonce_for

KEY = IssuerKey("acme", b"a" * 32)


def test_the_rule_does_not_change():
    """A text can be repeated from its seed: the nonce of release 0.1."""
    assert [nonce_for(KEY, seed, 4) for seed in range(8)] == [13, 6, 7, 13, 2, 3, 8, 12]
    assert nonce_for(KEY, 2**63 - 1, 0) == 0


def test_nonces_are_spread_and_follow_from_the_secret():
    counts = Counter(nonce_for(KEY, seed, 4) for seed in range(3200))
    assert set(counts) == set(range(16)) and max(counts.values()) < 270 and min(counts.values()) > 140
    other = IssuerKey("acme", b"b" * 32)
    same = sum(nonce_for(KEY, seed, 4) == nonce_for(other, seed, 4) for seed in range(3200))
    assert 130 < same < 270  # one in sixteen
