from __future__ import annotations

import pytest

from watermark.codebook.codewords import Candidate
from watermark.errors import InvalidInput
from watermark.statistics.decision import decide
from watermark.statistics.verdict import TokenEvidence, Verdict

BEST = Candidate(issuer="press-office", payload=0x2A, payload_bits=10, nonce=3)
EVIDENCE = (TokenEvidence(0, 4, 0.5),)


def verdict(p: float, tokens: int = 100, best: Candidate | None = BEST) -> Verdict:
    return decide(best, p, false_positive_rate=1e-3, tokens=tokens, min_tokens=40, candidates=16_384, evidence=EVIDENCE)


@pytest.mark.parametrize("tokens", [3, 100])
def test_significant_is_marked_at_any_length(tokens: int) -> None:
    found = verdict(2.5e-9, tokens)
    assert (found.verdict, found.issuer, found.payload, found.evidence) == ("marked", "press-office", "02a", EVIDENCE)
    assert "press-office" in found.explanation and "2.5e-09" in found.explanation and "16,384" in found.explanation
    assert "does not mean" in found.explanation


@pytest.mark.parametrize("p", [1e-3, 0.4, 1.0])
def test_not_significant_names_nobody(p: float) -> None:
    long, short = verdict(p), verdict(p, tokens=39)
    assert (long.verdict, short.verdict) == ("not_detected", "insufficient_text")
    for found in (long, short):
        assert found.issuer is None and found.payload is None and found.evidence is None
        assert found.p_value == p and "press-office" not in found.explanation
    assert "does not mean that a person wrote" in long.explanation
    assert "below 40" in short.explanation


def test_an_issuer_without_payload_has_none() -> None:
    assert verdict(1e-6, best=Candidate(issuer="a", payload=0, payload_bits=0, nonce=0)).payload is None


def test_empty_text() -> None:
    found = verdict(1.0, tokens=0, best=None)
    assert found.verdict == "insufficient_text" and "0 tokens" in found.explanation


def test_refusals() -> None:
    with pytest.raises(InvalidInput, match="candidate"):
        verdict(1e-9, best=None)
    with pytest.raises(InvalidInput, match="p-value"):
        verdict(0.0)
    with pytest.raises(InvalidInput, match="false-positive"):
        decide(BEST, 0.5, false_positive_rate=1.0, tokens=1, min_tokens=1, candidates=1)
