from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from watermark.errors import InvalidInput
from watermark.statistics.decision import Findings, decide
from watermark.statistics.posterior import DecodedPayload, PayloadBit
from watermark.statistics.verdict import Segment, TokenEvidence, Verdict

MESSAGE = DecodedPayload(0x2A, 0.999, tuple(PayloadBit(int(b), 0.9995) for b in f"{0x2A:010b}"))
UNSURE = DecodedPayload(None, 0.6, (PayloadBit(1, 0.97), PayloadBit(None, 0.7)))
WHOLE = Segment(0, 400, 100, "press-office", 2, "02a", 0.999, 1e-9)
EVIDENCE = (TokenEvidence(0, 4, 0.5),)


def verdict(p: float, rate: float = 1e-3, *, public: bool = False, **changes: Any) -> Verdict:
    found = Findings("press-office", 2, MESSAGE, p, p / 2, 100, 16_384, 12, 0.98, True, (WHOLE,), EVIDENCE)
    return decide(replace(found, **changes), rate, public=public)


@pytest.mark.parametrize("sufficient", [True, False])
def test_significant_is_marked_at_any_length(sufficient: bool) -> None:
    found = verdict(2.5e-9, sufficient=sufficient)
    assert (found.verdict, found.issuer, found.key_version, found.payload) == ("marked", "press-office", 2, "02a")
    assert found.evidence == EVIDENCE
    assert found.payload_confidence == 0.999 and found.payload_bits == MESSAGE.bits and found.segments == (WHOLE,)
    assert (found.p_value, found.exact_p_value) == (2.5e-9, 1.25e-9)
    assert all(words in found.explanation for words in ("press-office", "2.5e-09", "16,384", "12 parts", "does not mean"))
    assert "passage" not in found.explanation  # it is the whole text


def test_a_marked_part_is_said_to_be_one() -> None:
    part = replace(WHOLE, tokens=30)
    assert "in one passage of 30 of its 100 tokens" in verdict(1e-9, segments=(part,)).explanation
    assert "in 2 passages of 60 of its 100 tokens" in verdict(1e-9, segments=(part, part)).explanation


def test_an_unsure_message_is_erased_and_said_to_be() -> None:
    found = verdict(1e-9, payload=UNSURE)
    assert found.verdict == "marked" and found.payload is None and found.payload_confidence == 0.6
    assert found.payload_bits == UNSURE.bits and "cannot be read" in found.explanation


@pytest.mark.parametrize("p", [1e-3, 0.4, 1.0])
def test_not_significant_names_nobody(p: float) -> None:
    long, short = verdict(p), verdict(p, sufficient=False, expected_detection=0.3)
    assert (long.verdict, short.verdict) == ("not_detected", "insufficient_text")
    for found in (long, short):
        assert (found.issuer, found.key_version, found.payload, found.payload_confidence, found.payload_bits) == (None,) * 5
        assert found.evidence is None and found.segments == ()
        assert found.p_value == p and "press-office" not in found.explanation
    assert "does not mean that a person wrote" in long.explanation and "98 %" in long.explanation
    assert "30 %" in short.explanation and "too short" in short.explanation


def test_without_calibration_nothing_is_said_of_power() -> None:
    assert "are found when nobody" not in verdict(0.5, expected_detection=None).explanation


def test_an_issuer_without_payload_has_none() -> None:
    found = verdict(1e-6, payload=None)
    assert found.payload is None and found.payload_bits is None and "message is in the mark" not in found.explanation


def test_empty_text() -> None:
    found = verdict(1.0, tokens=0, issuer=None, sufficient=False)
    assert found.verdict == "insufficient_text" and "0 tokens" in found.explanation


def test_books_beyond_counting() -> None:
    assert "3.0e+20 candidates" in verdict(1e-6, candidates=2**68).explanation


@pytest.mark.parametrize(
    ("p", "rounded"), [(2.5e-9, 1e-8), (1e-8, 1e-8), (1e-200, 1e-12), (5e-4, 1e-3), (1e-3, 1e-3), (0.034, 0.1), (1.0, 1.0)]
)
def test_the_public_answer_is_coarse(p: float, rounded: float) -> None:
    part = replace(WHOLE, tokens=30)
    full, public = verdict(p, segments=(part,)), verdict(p, segments=(part,), public=True)
    assert public.p_value == public.exact_p_value == pytest.approx(rounded)
    assert (public.p_value < 1e-3) == (public.verdict == "marked")
    for field in ("verdict", "issuer", "key_version", "payload"):
        assert getattr(public, field) == getattr(full, field)
    assert public.payload_confidence is None and public.payload_bits is None and public.evidence is None and public.segments == ()
    assert "passage" not in public.explanation and "probability at most" in public.explanation


def test_public_answers_do_not_tell_neighbours_apart() -> None:
    assert verdict(2.1e-9, public=True) == verdict(2.9e-9, public=True)


def test_only_the_named_issuers_passages_are_counted() -> None:
    mine, others = replace(WHOLE, tokens=30), replace(WHOLE, tokens=20, issuer="somebody-else")
    assert "in one passage of 30 of its 100 tokens" in verdict(1e-9, segments=(mine, others)).explanation


def test_refusals() -> None:
    with pytest.raises(InvalidInput, match="issuer"):
        verdict(1e-9, issuer=None)
    with pytest.raises(InvalidInput, match="p-value"):
        verdict(0.0)
    with pytest.raises(InvalidInput, match="false-positive"):
        verdict(0.5, rate=1.0)
