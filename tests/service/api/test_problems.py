"""Every way to be refused, and that nothing hostile makes a 500 or ends the service."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.middleware import REQUEST_ID
from service.settings import MIB, build_settings
from tests.service.harness import SMALL, Served, places, problem, serving, small_settings

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, {"/prompt"}),
        ({"prompt": 7}, {"/prompt"}),
        ({"prompt": None}, {"/prompt"}),
        ({"prompt": []}, {"/prompt"}),
        ({"prompt": ["a", 7]}, {"/prompt/1"}),
        ({"prompt": {"text": "a"}}, {"/prompt"}),
        ({"prompt": "a", "max_tokens": 5}, {"/max_tokens"}),
        ({"prompt": "a", "max_new_tokens": 0}, {"/max_new_tokens"}),
        ({"prompt": "a", "max_new_tokens": 10.5}, {"/max_new_tokens"}),
        ({"prompt": "a", "max_new_tokens": "10"}, {"/max_new_tokens"}),
        ({"prompt": "a", "max_new_tokens": True}, {"/max_new_tokens"}),
        ({"prompt": "a", "max_new_tokens": 10**30}, {"/max_new_tokens"}),
        ({"prompt": "a", "max_new_tokens": SMALL["max_new_tokens"] + 1}, {"/max_new_tokens"}),
        ({"prompt": "a", "max_new_tokens": 5, "min_new_tokens": 6}, {"/min_new_tokens"}),
        ({"prompt": "a", "temperature": -1, "top_k": 0, "top_p": 0}, {"/temperature", "/top_k", "/top_p"}),
        ({"prompt": "a", "temperature": 11, "top_k": 1025, "top_p": 1.1}, {"/temperature", "/top_k", "/top_p"}),
        ({"prompt": "a", "seed": -1}, {"/seed"}),
        ({"prompt": "a", "seed": 2**63}, {"/seed"}),
        ({"prompt": "a", "strength": 1.01}, {"/strength"}),
        ({"prompt": "a", "payload": "1"}, {"/payload"}),
        ({"prompt": "a", "issuer": "newsroom", "payload": "100"}, {"/payload"}),
        ({"prompt": "a", "issuer": "newsroom", "payload": "0x1"}, {"/payload"}),
        ({"prompt": "a", "issuer": "newsroom", "payload": "0" * 17}, {"/payload"}),
        ({"prompt": "a", "issuer": "newsroom", "payload": ""}, {"/payload"}),
        ({"prompt": "a", "issuer": "../../etc/passwd"}, {"/issuer"}),
        ({"prompt": "a", "issuer": "default\n"}, {"/issuer"}),
        ({"prompt": "a", "issuer": ""}, {"/issuer"}),
        ({"prompt": ["a"] * (SMALL["max_prompts"] + 1)}, {"/prompt"}),
        ({"prompt": ["a"] * 300}, {"/prompt"}),
        ({"prompt": "a", "stop": []}, {"/stop"}),
        ({"prompt": "a", "stop": ["x", ""]}, {"/stop/1"}),
        ({"prompt": "a", "stop": ["x"] * 9}, {"/stop"}),
        ({"prompt": "a", "stop": "x"}, {"/stop"}),
        ({"prompt": "a", "stream": 1}, {"/stream"}),
    ],
)
def test_bad_generation_requests_name_the_place(served: Served, body: dict[str, Any], pointers: set[str]) -> None:
    answer = problem(served.client.post("/generate", json=body), 422, "invalid_input")
    assert places(answer) == pointers


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, {"/text"}),
        ({"text": []}, {"/text"}),
        ({"text": [None]}, {"/text/0"}),
        ({"text": "a", "false_positive_rate": 0}, {"/false_positive_rate"}),
        ({"text": "a", "false_positive_rate": 1}, {"/false_positive_rate"}),
        ({"text": "a", "detail": "everything"}, {"/detail"}),
        ({"text": "a", "issuers": []}, {"/issuers"}),
        ({"text": "a", "issuers": "default"}, {"/issuers"}),
        ({"text": "a", "issuers": ["default", "No Such"]}, {"/issuers/1"}),
        ({"text": ["a"] * (SMALL["max_texts"] + 1)}, {"/text"}),
    ],
)
def test_bad_verification_requests_name_the_place(served: Served, body: dict[str, Any], pointers: set[str]) -> None:
    answer = problem(served.client.post("/verify", json=body), 422, "invalid_input")
    assert places(answer) == pointers


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(("path", "field"), [("/generate", "temperature"), ("/generate", "seed"), ("/verify", "false_positive_rate")])
def test_numbers_that_are_none_are_refused(served: Served, path: str, field: str, number: str) -> None:
    text = "prompt" if path == "/generate" else "text"
    answer = served.client.post(path, content=f'{{"{text}": "a", "{field}": {number}}}', headers=JSON)
    assert places(problem(answer, 422, "invalid_input")) == {f"/{field}"}


@pytest.mark.parametrize("escape", [r"\ud800", r"a\udfff", r"\udc00\ud800"])
def test_half_a_surrogate_pair_is_refused_by_its_place(served: Served, escape: str) -> None:
    body = problem(served.client.post("/verify", content=f'{{"text": ["fine", "{escape}"]}}', headers=JSON), 422, "invalid_input")
    assert places(body) == {"/text/1"} and "surrogate" in body["detail"]
    body = problem(served.client.post("/generate", content=f'{{"prompt": "{escape}"}}', headers=JSON), 422, "invalid_input")
    assert places(body) == {"/prompt"}
    whole = served.client.post("/verify", content=r'{"text": "🦊"}', headers=JSON)
    assert whole.status_code == 200


def test_half_a_surrogate_pair_as_a_field_name_can_be_answered(served: Served) -> None:
    problem(served.client.post("/verify", content=r'{"text": "a", "\ud800": 1}', headers=JSON), 422, "invalid_input")


def test_too_long_prompts_and_texts_say_how_long_they_may_be(served: Served) -> None:
    body = problem(served.generate(prompt=["a", "a" * 2_001]), 422, "prompt_too_long")
    assert places(body) == {"/prompt/1"} and "2000" in body["detail"]
    body = problem(served.verify("a" * 3_001), 422, "text_too_long")
    assert places(body) == {"/text"} and "3000" in body["detail"]
    assert served.verify("a" * 3_000).status_code == 200


def test_a_prompt_that_does_not_fit_the_context_is_refused_before_work(served: Served) -> None:
    body = problem(served.generate(prompt=["short", "a" * 510]), 422, "prompt_too_long")  # the fake model reads 512 tokens
    assert places(body) == {"/prompt/1"} and "512" in body["detail"]
    assert places(problem(served.generate(prompt="a" * 510), 422, "prompt_too_long")) == {"/prompt"}


def test_more_tokens_than_may_ever_wait_are_refused_before_work(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, queue_tokens=1_000)) as served:
        body = problem(served.generate(prompt=["a", "bb", "ccc"], max_new_tokens=331), 422, "too_many_tokens")
        assert places(body) == {"/prompt"} and "1,000" in body["detail"] and "1,002" in body["detail"]
        assert served.generate(prompt=["a", "bb", "ccc"], max_new_tokens=330).status_code == 200
        assert len(served.engine.submitted) == 3


def test_a_database_without_issuers_says_how_to_make_one(tmp_path: Path) -> None:
    settings = build_settings(**{**SMALL, "database_url": f"sqlite:///{tmp_path / 'empty.db'}"})
    with serving(settings) as served:
        assert "issuers create" in problem(served.generate(), 404, "unknown_issuer")["detail"]
        assert "issuers create" in problem(served.verify("a"), 404, "unknown_issuer")["detail"]
        assert served.client.get("/issuers").json() == {"issuers": []}
        served.storage.issuers.create("one")
        assert served.generate().json()["results"][0]["marking"]["issuer"] == "one"
        served.storage.issuers.create("two")
        assert places(problem(served.generate(), 422, "invalid_input")) == {"/issuer"}
        served.storage.issuers.retire("one")
        assert served.generate().json()["results"][0]["marking"]["issuer"] == "two"


def test_unknown_issuers_are_not_found(served: Served) -> None:
    assert places(problem(served.generate(issuer="nobody"), 404, "unknown_issuer")) == {"/issuer"}
    body = problem(served.verify("a", issuers=["default", "nobody"]), 404, "unknown_issuer")
    assert places(body) == {"/issuers/1"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"text": "a"', b"[1, 2", b'{"text": "a"} tail'])
def test_broken_json(served: Served, content: bytes) -> None:
    answer = served.client.post("/verify", content=content, headers=JSON)
    problem(answer, 422, "invalid_input") if not content else problem(answer, 400, "invalid_json")


@pytest.mark.parametrize(
    "content",
    [b'{"text": "\xff\xfe"}', b'{"text": ' + b"[" * 30_000, b'{"text": "a", "false_positive_rate": ' + b"9" * 6_000 + b"}", b"\x00" * 100],
)
def test_hostile_bytes_are_refused_not_failed(served: Served, content: bytes) -> None:
    answer = served.client.post("/verify", content=content, headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("content", [b"[]", b"null", b'"text"', b"3"])
def test_json_that_is_no_object(served: Served, content: bytes) -> None:
    problem(served.client.post("/verify", content=content, headers=JSON), 422, "invalid_input")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_other_media_types(served: Served, media_type: str) -> None:
    answer = served.client.post("/generate", content=b'{"prompt": "a"}', headers={"Content-Type": media_type})
    problem(answer, 415, "unsupported_media_type")


def test_thousands_of_errors_are_answered_briefly(served: Served) -> None:
    body = problem(served.client.post("/verify", json={"text": "a", **{f"x{i}": 1 for i in range(3_000)}}), 422, "invalid_input")
    assert places(body) == {""} and "3001 fields" in body["detail"] and "further_errors" not in body
    body = problem(served.client.post("/verify", json={"text": "a", **{f"x{i}": 1 for i in range(22)}}), 422, "invalid_input")
    assert len(body["errors"]) == 20 and body["further_errors"] == 2
    assert problem(served.client.post("/verify", json={"text": [1] * 10_000}), 422, "invalid_input")["errors"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/verify", {"text": "a", **{f"x{i}": 1 for i in range(170_000)}}),
        ("/issuers", {f"x{i}": 1 for i in range(170_000)}),
        ("/v1/chat/completions", {"messages": [{f"x{i}": 1 for i in range(600)}] * 256}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{f"x{i}": 1 for i in range(20)}] * 250}] * 20}),
    ],
)
def test_no_request_holds_up_the_others(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    """A probe asked again and again meanwhile is answered soon: what is wrong in a long body is not listed one by one."""
    with serving(small_settings(tmp_path, max_body_bytes=2 * MIB)) as served, ThreadPoolExecutor(1) as pool:
        content = json.dumps(body, separators=(",", ":"))
        assert len(content) > 80_000

        def slowest() -> float:
            found = 0.0
            sent = pool.submit(served.client.post, path, content=content, headers=JSON)
            while not sent.done():
                began = time.monotonic()
                assert served.client.get("/livez").status_code == 200
                found = max(found, time.monotonic() - began)
            assert sent.result().status_code in (400, 422)
            return found

        # Listed, they would take more than a second, every time; a busy machine is slow once.
        assert min(slowest() for _ in range(3)) < 0.5


def test_bodies_over_the_limit(served: Served) -> None:
    problem(served.verify("a" * 70_000), 413, "body_too_large")

    def chunks() -> Iterator[bytes]:  # no Content-Length: only counting finds out
        yield b'{"text": "'
        for _ in range(70):
            yield b"a" * 1024
        yield b'"}'

    problem(served.client.post("/verify", content=chunks(), headers=JSON), 413, "body_too_large")
    problem(served.client.post("/nowhere", content=b"a" * 70_000), 413, "body_too_large")


def test_addresses_and_methods_that_are_not_there(served: Served) -> None:
    for path in (
        "/nope",
        "/generate/",
        "/docs",
        "/redoc",
        "/static/index.html",
        "/../etc/passwd",
        "/%00",
        "/%ff%fe",
        "/receipts/",
        "/issuers/a/b",
    ):
        problem(served.client.get(path), 404, "not_found")
    answer = served.client.get("/generate")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    problem(served.client.delete("/issuers"), 405, "method_not_allowed")


def test_methods_of_the_clients_invention_are_refused(served: Served) -> None:
    problem(served.client.request("XYZZY", "/generate"), 405, "method_not_allowed")
    assert "XYZZY" not in served.client.get("/metrics").text


def test_headers_and_parameters_are_named(served: Served) -> None:
    for key in ("", "a b", "x" * 256, "ü"):
        headers = {b"Idempotency-Key": key.encode()}
        body = problem(served.client.post("/generate", json={"prompt": "a"}, headers=headers), 422, "invalid_input")
        assert "Header Idempotency-Key" in body["detail"]
    for query in ("limit=0", "limit=x", "limit=1001", "before=-1", f"before={2**64}"):
        body = problem(served.client.get(f"/audit?{query}"), 422, "invalid_input")
        assert f"Query {query.partition('=')[0]}" in body["detail"]
    assert "Path name" in problem(served.client.get("/issuers/No Such"), 422, "invalid_input")["detail"]
    assert "Path receipt_id" in problem(served.client.get("/receipts/%00"), 422, "invalid_input")["detail"]


def test_only_local_host_names_are_answered(served: Served) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1"):
        problem(served.client.get("/issuers", headers={"Host": host}), 421, "wrong_host")
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000", "[::1]"):
        assert served.client.get("/issuers", headers={"Host": host}).status_code == 200


def test_pages_of_other_origins_may_change_nothing(served: Served) -> None:
    served.storage.issuers.create("victim")
    own = str(served.client.base_url)
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1", ""):
        problem(served.client.post("/issuers/victim/retire", headers={"Origin": origin}), 403, "cross_origin")
    assert served.storage.issuers.get("victim").retired_at is None
    assert served.client.get("/issuers", headers={"Origin": "https://evil.example"}).status_code == 200  # which that page cannot read
    assert served.client.post("/issuers/victim/retire", headers={"Origin": own}).status_code == 200


def test_headers_of_every_answer(served: Served) -> None:
    answers = [
        served.client.get("/livez"),
        served.client.get("/nope"),
        served.verify("a" * 70_000),
        served.verify("a"),
        served.client.get("/"),
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert REQUEST_ID.fullmatch(answer.headers["x-request-id"])


def test_the_server_does_not_name_itself(served: Served) -> None:
    assert "server" not in served.client.get("/livez").headers


def test_a_sane_request_id_is_taken_over_and_another_replaced(served: Served) -> None:
    def answered(given: bytes) -> str:
        return served.client.get("/livez", headers={b"X-Request-ID": given}).headers["x-request-id"]

    assert answered(b"job-7.step_2") == "job-7.step_2"
    for given in (b"a" * 65, b'a"b', b"a b", b"", "ü".encode()):
        assert len(answered(given)) == 32


def test_hundreds_of_mutated_requests_and_still_alive(served: Served) -> None:
    source = random.Random(7)
    good = json.dumps({"text": ["Some text", "and more"], "issuers": ["default"], "false_positive_rate": 0.01, "detail": "full"}).encode()
    for _ in range(300):
        body = bytearray(good)
        for _ in range(source.randint(1, 6)):
            at = source.randrange(len(body))
            body[at : at + source.randint(0, 3)] = bytes(source.randrange(256) for _ in range(source.randint(0, 3)))
        answer: httpx.Response = served.client.post("/verify", content=bytes(body), headers=JSON)
        assert answer.status_code in (200, 400, 404, 422), (bytes(body), answer.text)
    assert served.readiness()[0] == 200
