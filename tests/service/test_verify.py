from __future__ import annotations

import pytest

from tests.service.harness import Served

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
