"""Verdicts from evidence: whole and parts, several issuers, payloads, the null. Evidence is made up, all else is real."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import fake_watermarked_model
from watermark.codebook.book import codebook
from watermark.codebook.codewords import codeword
from watermark.codebook.keys import IssuerKey
from watermark.errors import InvalidInput
from watermark.extraction.extractor import Evidence
from watermark.statistics.verdict import Verdict
from watermark.verification import UNCALIBRATED_TOKENS, Detail, Verifier

N = 1024
PLAIN, OTHER, LONG = IssuerKey("plain", b"1" * 32), IssuerKey("other", b"2" * 32), IssuerKey("long", b"3" * 32, 64)


def evidence(*parts: tuple[int, np.ndarray | None], seed: int = 0, strength: float = 0.025) -> Evidence:
    """Stretches of tokens, each with a codeword or without; at the default strength 100 tokens have z = 8."""
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(tokens, N)) + (0 if signs is None else strength * signs) for tokens, signs in parts]
    tokens = sum(tokens for tokens, _ in parts)
    return Evidence(np.concatenate(rows).astype(np.float16), [(5 * i, 5 * i + 4) for i in range(tokens)])


def verify(found: Evidence, *keys: IssuerKey, rate: float = 1e-3, detail: Detail = "full") -> Verdict:
    return Verifier(codebook(keys, 4, N), None, rate, detail).verdicts([found])[0]


def word(key: IssuerKey, payload: int = 0, nonce: int = 5) -> np.ndarray:
    return codeword(key, payload, nonce, 4, N)


def test_a_marked_text_is_one_segment() -> None:
    found = verify(evidence((200, word(PLAIN))), PLAIN, OTHER)
    assert (found.verdict, found.issuer, found.payload) == ("marked", "plain", None)
    [segment] = found.segments
    assert segment.issuer == "plain" and segment.tokens > 180 and segment.p_value < 1e-3
    assert found.evidence is not None and len(found.evidence) == 200 and np.mean([e.score for e in found.evidence]) > 0
    assert found.p_value == found.exact_p_value and found.candidates == 32 and found.windows > 0


def test_a_marked_part_is_found_where_the_whole_shows_nothing() -> None:
    found = verify(evidence((2000, None), (150, word(PLAIN)), (2000, None)), PLAIN, OTHER)
    assert (found.verdict, found.issuer) == ("marked", "plain")
    [segment] = found.segments
    assert abs(segment.start - 10_000) < 150 and abs(segment.end - 10_750) < 150  # five characters a token
    assert "in one passage" in found.explanation


def test_two_issuers_in_one_text() -> None:
    mixed = evidence((150, None), (150, word(OTHER)), (200, None), (200, word(LONG, 0xC0FFEE, 9)), strength=0.04)
    found = verify(mixed, PLAIN, OTHER, LONG)
    assert [s.issuer for s in found.segments] == ["other", "long"]
    assert found.segments[1].payload == f"{0xC0FFEE:016x}" and found.segments[0].payload is None


@pytest.mark.parametrize(("bits", "payload"), [(8, 0x2A), (16, 0xBEEF), (32, 0xDEADBEEF), (64, 2**64 - 1)])
def test_payloads_are_read_with_their_confidence(bits: int, payload: int) -> None:
    key = replace(LONG, payload_bits=bits)
    found = verify(evidence((200, word(key, payload)), strength=0.03), key)
    assert found.payload == f"{payload:0{bits // 4}x}" and found.payload_confidence > 0.99  # type: ignore[operator]
    assert found.payload_bits is not None and [b.value for b in found.payload_bits] == [payload >> i & 1 for i in reversed(range(bits))]


def test_a_message_that_cannot_be_read_is_erased() -> None:
    """Detected with a payload of 8 bits, but so weakly that several messages are possible."""
    key, erased, wrong = replace(LONG, payload_bits=8), 0, 0
    for seed in range(40):
        found = verify(evidence((60, word(key, 7)), seed=seed, strength=0.0215), key, rate=0.1)
        if found.verdict == "marked":
            erased += found.payload is None
            wrong += found.payload not in (None, "07")
            assert found.payload_bits is not None and len(found.payload_bits) == 8
    assert erased > 1 and wrong <= 2


def test_p_values_are_uniform_or_larger_under_the_null() -> None:
    """The whole test, windows included, over fresh keys: never below the nominal rate beyond chance."""
    p = []
    for seed in range(120):
        keys = [IssuerKey(f"k{i}", np.random.default_rng([seed, i]).bytes(32)) for i in range(2)]
        p.append(verify(evidence((100, None), seed=seed), *keys).p_value)
    for rate, most in ((0.5, 81), (0.1, 26), (0.02, 9)):  # expected 60, 12, 2.4 at most; four deviations above
        assert np.sum(np.array(p) < rate) <= most
    assert np.sum(np.array(p) < 0.5) >= 35  # nor needlessly large


def test_false_alarms_with_long_payloads_are_as_rare() -> None:
    found = [verify(evidence((100, None), seed=s), LONG, rate=0.1) for s in range(16)]
    assert sum(v.verdict == "marked" for v in found) <= 6


def test_evidence_is_the_same_alone_and_beside_others() -> None:
    texts = [evidence((100, word(PLAIN)), seed=1), evidence((40, None), seed=2), evidence((300, word(OTHER)), seed=3)]
    together = Verifier(codebook((PLAIN, OTHER), 4, N), None, 1e-3, "full").verdicts(texts)
    assert together == [verify(text, PLAIN, OTHER) for text in texts]


def test_short_and_empty_texts() -> None:
    short, empty = verify(evidence((UNCALIBRATED_TOKENS - 1, None)), PLAIN), verify(evidence((0, None)), PLAIN)
    assert short.verdict == empty.verdict == "insufficient_text" and short.windows == 0 and empty.p_value == 1.0
    assert verify(evidence((UNCALIBRATED_TOKENS, None)), PLAIN).verdict == "not_detected"
    marked = verify(evidence((30, word(PLAIN)), strength=0.06), PLAIN)
    assert marked.verdict == "marked" and [(s.start, s.end) for s in marked.segments] == [(0, 149)]


def test_text_without_any_evidence() -> None:
    nothing = Evidence(np.zeros((100, N), dtype=np.float16), [(i, i + 1) for i in range(100)])
    assert verify(nothing, PLAIN, LONG).p_value == 1.0


def test_the_public_answer() -> None:
    public, full = (verify(evidence((200, word(PLAIN))), PLAIN, detail=detail) for detail in ("public", "full"))
    assert (public.verdict, public.issuer) == (full.verdict, full.issuer)
    assert public.p_value >= full.p_value and np.log10(public.p_value) == pytest.approx(round(np.log10(public.p_value)))
    assert public.segments == () and public.evidence is None


def test_none_and_refusals() -> None:
    assert Verifier(codebook((PLAIN,), 4, N), None, 1e-3, "full").verdicts([]) == []
    with pytest.raises(InvalidInput, match="false-positive"):
        fake_watermarked_model().verdicts([], [PLAIN], false_positive_rate=0.0)


@pytest.mark.parametrize("detail", ["full", "public"])
def test_the_verdict_says_which_key_of_a_rotated_issuer(detail: Detail) -> None:
    """Also with payloads, of other lengths before and after the rotation."""
    first, second = IssuerKey("acme", b"5" * 32, 8), IssuerKey("acme", b"6" * 32, 16, version=2)
    for key, payload in ((first, 0x2A), (second, 0xBEEF)):
        found = verify(evidence((300, word(key, payload)), strength=0.04), PLAIN, first, second, detail=detail)
        assert (found.issuer, found.key_version, found.payload) == ("acme", key.version, f"{payload:0{key.payload_bits // 4}x}")
        assert {(s.issuer, s.key_version) for s in found.segments} <= {("acme", key.version)}
    unmarked = verify(evidence((300, None)), first, second, detail=detail)
    assert (unmarked.issuer, unmarked.key_version) == (None, None)


def test_a_text_with_marks_of_two_versions() -> None:
    first, second = IssuerKey("acme", b"5" * 32), IssuerKey("acme", b"6" * 32, version=2)
    found = verify(evidence((200, word(first)), (200, None), (200, word(second)), strength=0.04), first, second)
    assert [(s.issuer, s.key_version) for s in found.segments] == [("acme", 1), ("acme", 2)]


def test_several_generations_of_one_issuer_in_one_text() -> None:
    """Each has its own nonce, so none of them speaks for the whole; pasted together they are found one by one."""
    pasted = evidence((200, word(PLAIN, nonce=1)), (200, word(PLAIN, nonce=2)), (200, word(PLAIN, nonce=3)), strength=0.03)
    verdict = verify(pasted, PLAIN, OTHER)
    assert [s.issuer for s in verdict.segments] == ["plain"] * 3
    assert all(abs(s.tokens - 200) < 30 for s in verdict.segments)
    assert all(a.end <= b.start for a, b in itertools.pairwise(verdict.segments))
