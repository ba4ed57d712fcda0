from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.harness import Served, problem, serving, small_settings

PLAIN = "Nobody marked this text, which is long enough to say so."


def _written(served: Served, **body: object) -> str:
    return served.generate(max_new_tokens=60, **body).json()["results"][0]["text"]


def test_a_marked_text_is_named_with_its_message(served: Served) -> None:
    text = _written(served, issuer="newsroom", payload="2a", seed=1)
    body = served.verify(text).json()
    (verdict,) = body["results"]
    assert (verdict["verdict"], verdict["issuer"], verdict["key_version"], verdict["payload"]) == ("marked", "newsroom", 1, "2a")
    assert verdict["segments"] and len(verdict["evidence"]) == 60
    assert (body["model"], body["checkpoint"]) == ("fake-model", "fake-checkpoint") and body["timings"]["worked_seconds"] >= 0


def test_a_list_is_answered_in_order(served: Served) -> None:
    text = _written(served)
    results = served.verify([PLAIN, text, "short"]).json()["results"]
    assert [result["verdict"] for result in results] == ["not_detected", "marked", "insufficient_text"]
    assert [len(result["receipts"]) for result in results] == [0, 1, 0]


def test_detail_is_full_on_loopback_unless_public_is_asked_for(served: Served) -> None:
    text = _written(served)
    for detail, expected in ((None, "full"), ("full", "full"), ("public", "public")):
        (result,) = served.verify(text, **({"detail": detail} if detail else {})).json()["results"]
        assert served.engine.verified[-1].detail == expected
        assert (result["evidence"] is None) == (result["receipts"] is None) == (expected == "public")


def test_what_is_asked_for_reaches_the_engine(served: Served) -> None:
    assert served.verify(PLAIN, issuers=["newsroom", "default", "newsroom"], false_positive_rate=1e-6).status_code == 200
    request = served.engine.verified[-1]
    assert [key.name for key in request.keys] == ["newsroom", "default"] and request.false_positive_rate == 1e-6
    assert served.verify(PLAIN).status_code == 200
    assert {key.name for key in served.engine.verified[-1].keys} >= {"newsroom", "default"}
    assert served.engine.verified[-1].false_positive_rate == 1e-3


def test_rotated_and_retired_keys_are_still_verified_with(served: Served) -> None:
    served.storage.issuers.create("turning")
    old = _written(served, issuer="turning")
    served.storage.issuers.rotate("turning")
    new = _written(served, issuer="turning")
    served.storage.issuers.retire("turning")
    results = served.verify([old, new], issuers=["turning"]).json()["results"]
    assert [(result["issuer"], result["key_version"]) for result in results] == [("turning", 1), ("turning", 2)]
    problem(served.generate(issuer="turning"), 409, "issuer_retired")


def test_an_issuer_that_is_created_while_it_is_looked_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    issuers = served.app.state.runtime.require_storage().issuers
    listed = issuers.list

    def created_first() -> object:
        served.storage.issuers.create("sudden")
        return listed()

    monkeypatch.setattr(issuers, "list", created_first)
    assert served.verify(PLAIN, issuers=["sudden"]).status_code == 200
    assert [key.name for key in served.engine.verified[-1].keys] == ["sudden"]


def test_receipts_of_the_text_and_of_edited_copies_are_found(served: Served) -> None:
    written = served.generate(max_new_tokens=400, prompt="For a receipt", seed=77).json()["results"][0]
    text = written["text"]
    assert served.verify(text).json()["results"][0]["receipts"] == [written["receipt_id"]]
    words = text.split(" ")
    assert len(words) > 20
    edited = " ".join([*words[:-1], "edited"])
    assert served.verify(edited).json()["results"][0]["receipts"] == [written["receipt_id"]]
    assert served.verify(" ".join(reversed(words))).json()["results"][0]["receipts"] == []


@pytest.mark.parametrize("text", ["\x00" * 50, "🦊" * 50, "漢字" * 40, "\n" * 50, "x" * 3000])
def test_any_characters_are_a_text(served: Served, text: str) -> None:
    assert served.verify(text).json()["results"][0]["verdict"] == "not_detected"


def test_a_poisonous_text_is_the_servers_fault_and_quotes_nothing(served: Served) -> None:
    body = problem(served.verify("poison"), 500, "internal")
    assert body["error_id"] and "digest" not in str(body)


def test_a_verification_has_a_deadline(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, deadline_seconds=1e-9)) as served:
        problem(served.verify(PLAIN), 504, "deadline_exceeded")
        problem(served.generate(), 504, "deadline_exceeded")
        assert served.unfinished == 0
