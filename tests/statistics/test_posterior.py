"""The posterior over messages, on evidence that follows its model exactly."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.codebook.payload_code import payload_code
from watermark.errors import InvalidInput
from watermark.statistics.posterior import MIN_CONFIDENCE, DecodedPayload, decode_payload

N = 1024


def read(bits: int, z: float, seed: int, list_only: int | None = None) -> tuple[int, DecodedPayload]:
    """A message in Gaussian evidence whose statistic is z on average; with `list_only`, as a list decoder leaves it."""
    rng = np.random.default_rng(seed)
    code = payload_code(bits, N)
    sent = int(rng.integers(0, 2**bits, dtype=np.uint64))
    total = code.encode([sent])[0] * z / np.sqrt(N) + rng.normal(size=N)
    payloads = list(range(2**bits)) if bits <= 10 else code.decode((2 * z / np.sqrt(N) * total).astype(np.float32)[None])[0]
    statistics = code.encode(payloads).astype(float) @ total
    if list_only:
        kept = np.argsort(-statistics)[:list_only]
        payloads, statistics = [payloads[i] for i in kept], statistics[kept]
    return sent, decode_payload(total, payloads, statistics, payload_bits=bits, units=1)


@pytest.mark.parametrize(("bits", "z"), [(8, 4.5), (8, 6.0), (10, 5.0)])
def test_confidence_is_the_share_of_right_messages(bits: int, z: float) -> None:
    pairs = [read(bits, z, seed) for seed in range(300)]
    stated = [(found.value == sent, found.confidence) for sent, found in pairs if found.value is not None]
    right, confidence = np.mean([r for r, _ in stated]), np.mean([c for _, c in stated])
    assert len(stated) > 20 and abs(right - confidence) < 0.03
    bits_stated = [
        (bit.value == (sent >> (bits - 1 - i) & 1), bit.confidence)
        for sent, found in pairs
        for i, bit in enumerate(found.bits)
        if bit.value is not None
    ]
    assert abs(np.mean([r for r, _ in bits_stated]) - np.mean([c for _, c in bits_stated])) < 0.03


def test_below_what_a_text_carries_there_is_an_erasure_and_no_guess() -> None:
    found = [read(32, 4.0, seed)[1] for seed in range(40)]
    assert sum(f.value is not None for f in found) <= 1
    assert np.mean([f.confidence for f in found]) < 0.3


def test_above_it_the_message_is_certain() -> None:
    for seed in range(20):
        sent, found = read(32, 10.0, seed)
        assert found.value == sent and found.confidence > MIN_CONFIDENCE
        assert [bit.value for bit in found.bits] == [sent >> i & 1 for i in reversed(range(32))]


def test_unlisted_messages_count() -> None:
    """One message on the list of a book of 1,024, at a z that any of them reaches: that it is alone there proves nothing."""
    confidences = [read(10, 1.0, seed, list_only=1)[1].confidence for seed in range(50)]
    assert np.mean(confidences) < 0.4 and np.mean(np.array(confidences) > MIN_CONFIDENCE) <= 0.02


def test_nothing_likely_is_all_erased() -> None:
    found = decode_payload(np.zeros(N), [], np.array([]), payload_bits=8, units=16)
    assert found.value is None and found.confidence == 0.0
    assert all(bit.value is None and bit.confidence == 0.5 for bit in found.bits)


def test_refusals() -> None:
    with pytest.raises(InvalidInput):
        decode_payload(np.ones(N), [1], np.array([]), payload_bits=8, units=16)
    with pytest.raises(InvalidInput):
        decode_payload(np.ones(N), [], np.array([]), payload_bits=0, units=16)
