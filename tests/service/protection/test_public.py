"""The public detector: no key, strict limits, a coarse answer, nothing kept."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.observability.logs import configure_logging
from tests.service.harness import Served, places, problem, serving, small_settings, until

JSON = {"Content-Type": "application/json"}
PLAIN = "Nobody marked this text, which is long enough to say so."


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Served]:
    with serving(small_settings(tmp_path, authentication=True, public_rate="10/minute;50/day")) as running:
        yield running


def test_anybody_may_verify_one_text_with_a_coarse_answer(guarded: Served) -> None:
    headers = guarded.api_key("writer", "generate")
    text = guarded.client.post("/generate", json={"prompt": "Hi", "max_new_tokens": 60}, headers=headers).json()["results"][0]["text"]
    for body in ({"text": text}, {"text": [text]}, {"text": text, "detail": "public"}):
        answer = guarded.client.post("/verify", json=body)
        (result,) = answer.json()["results"]
        assert (result["verdict"], result["issuer"]) == ("marked", "default")
        assert result["evidence"] is None and result["segments"] == [] and result["receipts"] is None
        assert guarded.engine.verified[-1].detail == "public" and guarded.engine.verified[-1].false_positive_rate == 1e-3
        assert answer.headers["ratelimit-limit"] == "10"


def test_what_is_for_keys_only_says_so(guarded: Served) -> None:
    for body in (
        {"text": PLAIN, "detail": "full"},
        {"text": PLAIN, "false_positive_rate": 1e-3},
        {"text": [PLAIN, PLAIN]},
        {"text": PLAIN, "issuers": ["default"]},
        {"text": PLAIN, "issuers": ["no-such-issuer"]},
    ):
        assert "API key" in problem(guarded.client.post("/verify", json=body), 401, "unauthenticated")["detail"]
    body = problem(guarded.client.post("/verify", json={"text": "a" * 201}), 422, "text_too_long")
    assert places(body) == {"/text"} and "200" in body["detail"]
    assert guarded.engine.verified == []
    with_key = guarded.client.post("/verify", json={"text": ["a" * 201] * 2, "detail": "full"}, headers=guarded.api_key("reader", "verify"))
    assert with_key.status_code == 200


def test_a_bad_key_is_not_the_public(guarded: Served) -> None:
    for header in ("Bearer wrong", "Basic x", "Bearer"):
        answer = guarded.client.post("/verify", json={"text": PLAIN}, headers={"Authorization": header})
        problem(answer, 401, "unauthenticated")


def test_the_public_is_limited_by_address_and_keys_are_not_held_up(guarded: Served) -> None:
    answers = [guarded.client.post("/verify", json={"text": PLAIN}, headers={"X-Forwarded-For": f"10.0.0.{i}"}) for i in range(10)]
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == [str(9 - i) for i in range(10)]
    refused = guarded.client.post("/verify", json={"text": PLAIN}, headers={"X-Forwarded-For": "10.0.0.99"})
    body = problem(refused, 429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60 and "10 requests per minute" in body["detail"]
    assert guarded.client.post("/verify", json={"text": PLAIN}, headers=guarded.api_key("reader", "verify")).status_code == 200


def test_behind_a_trusted_proxy_each_client_has_a_rate_of_its_own(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, authentication=True, public_rate="2/minute", trusted_proxies="127.0.0.0/8, 10.1.1.1")
    with serving(settings) as served:
        # What a client says itself stands further left than what the proxies say, and is not believed.
        for named in ("192.0.2.1", "192.0.2.2", "203.0.113.9, 192.0.2.3", "192.0.2.4, 10.1.1.1"):
            answers = [served.client.post("/verify", json={"text": PLAIN}, headers={"X-Forwarded-For": named}) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 429], named
        problem(served.client.post("/verify", json={"text": PLAIN}, headers={"X-Forwarded-For": "8.8.8.8, 192.0.2.3"}), 429, "rate_limited")


def test_a_body_that_is_longer_than_any_public_one_is_not_looked_into(guarded: Served) -> None:
    longest = {"text": "\U0001f98a" * 200}  # twelve bytes each
    assert guarded.client.post("/verify", content=json.dumps(longest), headers=JSON).status_code == 200
    padded = json.dumps({"text": PLAIN, **{f"x{i}": 1 for i in range(1_000)}})
    body = problem(guarded.client.post("/verify", content=padded, headers=JSON), 413, "body_too_large")
    assert "200 characters" in body["detail"]
    with_key = {**JSON, **guarded.api_key("reader", "verify")}
    problem(guarded.client.post("/verify", content=padded, headers=with_key), 422, "invalid_input")


def test_nothing_is_kept_or_logged(guarded: Served, tmp_path: Path, restored_logs: None) -> None:
    stream = io.StringIO()
    configure_logging("DEBUG", "json", stream)
    marker = "Xylophone-Quokka-7391"
    assert guarded.client.post("/verify", json={"text": f"{marker} {PLAIN}"}).status_code == 200
    until(lambda: '"actor": "public"' in stream.getvalue(), "the line in the log, which is written after the answer is sent")
    assert marker not in stream.getvalue()
    assert "127.0.0.1" not in stream.getvalue()
    for file in tmp_path.iterdir():
        assert marker.encode() not in file.read_bytes()
    assert guarded.storage.audit.list() == ()


def test_the_operator_can_switch_it_off(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, authentication=True, public_verification=False)) as served:
        problem(served.verify(PLAIN), 401, "unauthenticated")
