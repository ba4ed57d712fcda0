from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.calibrations import sound_calibration
from tests.fakes import fake_watermarked_model
from tests.service.harness import Served, serving, small_settings
from watermark.pipeline import WatermarkedModel

PLAIN = "A sentence that nobody marked, long enough to be looked at in earnest."


@pytest.fixture(scope="module")
def marked(served: Served) -> str:
    result = served.generate(issuer="newsroom", seed=1, max_new_tokens=300, min_new_tokens=300).json()["results"][0]
    assert result["marking"]["watermark"]
    return result["text"]


def test_a_list_gets_one_verdict_each_in_order(served: Served, marked: str) -> None:
    answer = served.verify([PLAIN, marked, "", "short"])
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [v["verdict"] for v in body["results"]] == ["not_detected", "marked", "insufficient_text", "insufficient_text"]
    assert [v["issuer"] for v in body["results"]] == [None, "newsroom", None, None]
    assert all(v["explanation"] and 0 < v["p_value"] <= 1 and v["false_positive_rate"] == 1e-3 for v in body["results"])
    assert body["model"] == "fake-0" and body["checkpoint"] == "fake-untrained"


def test_alone_is_as_in_a_list(served: Served, marked: str) -> None:
    together = served.verify([PLAIN, marked]).json()["results"]
    alone = [served.verify(text).json()["results"][0] for text in (PLAIN, marked)]
    for one, other in zip(together, alone, strict=True):
        assert one["verdict"] == other["verdict"] and one["p_value"] == pytest.approx(other["p_value"], rel=1e-3)


def test_evidence_is_given_in_full_detail_only_and_covers_the_text(served: Served, marked: str) -> None:
    full = served.verify(marked).json()["results"][0]["evidence"]
    assert [(token["start"], token["end"]) for token in full] == [(i, i + 1) for i in range(len(marked))]
    assert sum(token["score"] for token in full) > 3
    assert served.verify(marked, detail="public").json()["results"][0]["evidence"] is None
    assert served.verify(PLAIN).json()["results"][0]["evidence"] is None


def test_public_detail_is_coarse(served: Served, marked: str) -> None:
    full, public = (served.verify(marked, detail=detail).json()["results"][0] for detail in ("full", "public"))
    assert list(full) == list(public)
    for field in ("verdict", "issuer", "payload", "tokens", "candidates", "windows", "expected_detection"):
        assert full[field] == public[field]
    assert full["p_value"] <= public["p_value"] <= max(1e-12, 10 * full["p_value"]) and f"{public['p_value']:.3e}".startswith("1.000e-")
    assert public["exact_p_value"] == public["p_value"] and f"{full['p_value']:.2g}" not in public["explanation"]
    assert public["payload_confidence"] is public["payload_bits"] is public["evidence"] is None and public["segments"] == []


def test_a_payload_is_given_with_its_confidence_and_bit_by_bit(served: Served, marked: str) -> None:
    verdict = served.verify(marked).json()["results"][0]
    assert verdict["payload"] == "00" and verdict["payload_confidence"] > 0.99
    assert [bit["value"] for bit in verdict["payload_bits"]] == [0] * 8
    assert all(0.95 <= bit["confidence"] <= 1 for bit in verdict["payload_bits"])
    plain = served.verify(PLAIN).json()["results"][0]
    assert plain["payload"] is plain["payload_confidence"] is plain["payload_bits"] is None


def test_an_erased_payload_differs_from_none(served: Served) -> None:
    """Too short for its message, at a rate that calls it marked all the same."""
    for issuer, erased in (("newsroom", True), ("default", False)):
        for seed in range(1, 9):  # some texts are too weakly marked even for this rate, some are read after all
            text = served.generate(issuer=issuer, seed=seed, max_new_tokens=40, min_new_tokens=40).json()["results"][0]["text"]
            verdict = served.verify(text, issuers=[issuer], false_positive_rate=0.999).json()["results"][0]
            if verdict["verdict"] == "marked" and verdict["payload"] is None:
                break
        assert verdict["verdict"] == "marked" and verdict["payload"] is None
        assert (verdict["payload_bits"] is not None) == erased == ("A message is in the mark, but" in verdict["explanation"])
        assert (verdict["payload_confidence"] is not None and verdict["payload_confidence"] < 0.95) == erased


def test_segments_say_which_passage_is_whose(served: Served) -> None:
    """Two issuers in one text, in code points: each wrote on after what was there."""
    before, between = "🦊 A sentence that nobody marked, nor will. ", "Then the sober report goes on, by hand. "
    first, text, verdict, segments = "", "", {}, []
    for seed in range(1, 9):  # the fake model has few tokens, and not every text of it can be read
        first = before + _written(served, before, "default", 200, seed)
        text = first + between + _written(served, first + between, "newsroom", 180, seed, payload="2a")
        verdict = served.verify(text).json()["results"][0]
        segments = verdict["segments"]
        if len(segments) == 2 and segments[1]["payload"]:
            break
    assert verdict["windows"] > 0
    assert [(s["issuer"], s["payload"]) for s in segments] == [("default", None), ("newsroom", "2a")]
    assert segments[0]["payload_confidence"] is None and segments[1]["payload_confidence"] > 0.95
    for segment, (start, end) in zip(segments, [(len(before), len(first)), (len(first + between), len(text))], strict=True):
        assert abs(segment["start"] - start) <= 25 and abs(segment["end"] - end) <= 25
        assert segment["tokens"] == segment["end"] - segment["start"] and segment["p_value"] < 1e-3  # a character is a token here
    assert served.verify(PLAIN).json()["results"][0]["segments"] == []


def _written(served: Served, prompt: str, issuer: str, tokens: int, seed: int, **more: str) -> str:
    body = {"prompt": prompt, "issuer": issuer, "seed": seed, "max_new_tokens": tokens, "min_new_tokens": tokens, **more}
    return served.generate(**body).json()["results"][0]["text"]


def test_a_calibration_says_what_a_missing_mark_means(served: Served, tmp_path: Path) -> None:
    assert served.verify(PLAIN).json()["results"][0]["expected_detection"] is None
    plain = fake_watermarked_model()
    model = WatermarkedModel(plain.lm, plain.pair, "fake-calibrated", sound_calibration())
    with serving(small_settings(tmp_path), model) as calibrated:
        short, long = calibrated.verify([PLAIN[:20], PLAIN * 4], issuers=["default"]).json()["results"]
    assert short["verdict"] == "insufficient_text" and short["expected_detection"] == pytest.approx(0.4)
    assert long["verdict"] == "not_detected" and long["expected_detection"] == 1.0
    assert "40 % are found" in short["explanation"] and short["p_value"] >= short["exact_p_value"]


def test_only_the_issuers_named_are_tried(served: Served, marked: str) -> None:
    other = served.verify(marked, issuers=["default"]).json()["results"][0]
    assert other["verdict"] == "not_detected" and other["candidates"] == 16
    right = served.verify(marked, issuers=["newsroom", "default", "newsroom"]).json()["results"][0]
    assert right["issuer"] == "newsroom" and right["candidates"] == 16 + 16 * 256


def test_the_threshold_is_the_one_asked_for(served: Served, marked: str) -> None:
    p_value = served.verify(marked).json()["results"][0]["p_value"]
    strict = served.verify(marked, false_positive_rate=p_value / 10).json()["results"][0]
    assert strict["verdict"] == "not_detected" and strict["false_positive_rate"] == p_value / 10


@pytest.mark.parametrize("text", ["\x00" * 50, "🦊" * 50, "漢字" * 40, "\n" * 50, "x" * 3000])
def test_any_characters_are_a_text(served: Served, text: str) -> None:
    answer = served.verify(text)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["verdict"] in ("not_detected", "insufficient_text")
