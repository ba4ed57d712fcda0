"""Errors under /v1: OpenAI's shape, so that its client raises the right class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.service.chat_model import chat_engine
from tests.service.harness import Served, serving, small_settings, until
from tests.service.openai.conftest import connect
from tests.service.openai.test_completions import MODEL

HI: list[Any] = [{"role": "user", "content": "Hi"}]
COMPLETION: dict[str, Any] = {"model": MODEL, "prompt": "Hello", "max_tokens": 5}
CHAT: dict[str, Any] = {"model": MODEL, "messages": HI, "max_tokens": 5}
BOTH = [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)]
BOTH_NEUTRAL = {
    "frequency_penalty": 0.0,
    "presence_penalty": 0,
    "logit_bias": {},
    "n": 1,
    "user": "u1",
    "stop": None,
    "seed": None,
    "stream": False,
}
NEUTRAL: dict[str, dict[str, Any]] = {
    "/v1/completions": {"best_of": 1, "echo": False, "logprobs": None, "suffix": None, "stop": []},
    "/v1/chat/completions": {
        "logprobs": False,
        "top_logprobs": 0,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": True,
        "functions": [],
        "function_call": "auto",
        "reasoning_effort": "none",
        "store": False,
        "metadata": {},
        "service_tier": "auto",
        "audio": None,
        "prediction": None,
        "safety_identifier": "x",
    },
}


def error(answer: httpx.Response, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """The error of an answer, after checking that it has OpenAI's shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (key, body), *others = answer.json().items()
    assert key == "error" and not others and set(body) == {"message", "type", "param", "code"}
    assert (body["code"], body["param"]) == (code, param) and body["message"], body
    assert body["type"] == ("server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error")
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    return body


@pytest.mark.parametrize("path, body", BOTH)
def test_neutral_values_are_taken(served: Served, path: str, body: dict[str, Any]) -> None:
    answer = served.client.post(path, json={**body, **BOTH_NEUTRAL, **NEUTRAL[path]})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "path, field, value",
    [
        *[(path, field, value) for path, _ in BOTH for field, value in [("frequency_penalty", 0.1), ("presence_penalty", -1)]],
        *[(path, "logit_bias", {"50256": -100}) for path, _ in BOTH],
        *[("/v1/completions", field, value) for field, value in [("best_of", 2), ("echo", True), ("logprobs", 1), ("suffix", "end")]],
        *[
            ("/v1/chat/completions", field, value)
            for field, value in [
                ("logprobs", True),
                ("response_format", {"type": "json_object"}),
                ("tools", [{"type": "function", "function": {"name": "f"}}]),
                ("tool_choice", "required"),
                ("reasoning_effort", "high"),
                ("modalities", ["text", "audio"]),
                ("store", True),
                ("metadata", {"a": "b"}),
            ]
        ],
    ],
)
def test_what_the_service_does_not_have_is_refused_by_name(served: Served, path: str, field: str, value: Any) -> None:
    body = error(served.client.post(path, json={**dict(BOTH)[path], field: value}), 400, "unsupported_parameter", field)
    assert body["message"].startswith(f"{field}: This service does not have this parameter; leave it out")


def test_the_document_tells_which_values_are_taken(served: Served) -> None:
    schemas = served.client.get("/openapi.json").json()["components"]["schemas"]
    taken = {name: field["enum"] for name, field in schemas["CompletionRequest"]["properties"].items() if "enum" in field}
    zero = {"frequency_penalty": [None, 0], "presence_penalty": [None, 0], "logit_bias": [None, {}]}
    assert taken == {**zero, "best_of": [None, 1], "echo": [None, False], "logprobs": [None], "suffix": [None, ""]}
    assert taken["echo"][1] is False and taken["presence_penalty"][1] is not False  # to Python they are equal


@pytest.mark.parametrize(
    "change, code, param",
    [
        ({"temprature": 1}, "unknown_parameter", "temprature"),
        ({"countersign": {"isuer": "x"}}, "unknown_parameter", "countersign.isuer"),
        ({"countersign": {"issuer": "Not a name"}}, "invalid_value", "countersign.issuer"),
        ({"countersign": {"payload": "2a"}}, "invalid_value", "countersign.payload"),
        ({"countersign": {"min_new_tokens": 9}}, "invalid_value", "countersign.min_new_tokens"),
        ({"temperature": 2.1}, "invalid_value", "temperature"),
        ({"temperature": "1"}, "invalid_value", "temperature"),
        ({"top_p": 0}, "invalid_value", "top_p"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": 401}, "invalid_value", "max_tokens"),
        ({"n": 7}, "invalid_value", "n"),
        ({"seed": -1}, "invalid_value", "seed"),
        ({"stop": ["a", ""]}, "invalid_value", "stop[1]"),
        ({"stop": ""}, "invalid_value", "stop"),
        ({"prompt": [5, 6]}, "token_array", "prompt"),
        ({"prompt": [[5, 6]]}, "token_array", "prompt"),
        ({"prompt": ["x"] * 7}, "invalid_value", "prompt"),
        ({"prompt": "x" * 600}, "context_length_exceeded", "prompt"),
        ({"prompt": ["x", "y" * 2001]}, "context_length_exceeded", "prompt[1]"),
        ({"model": "gpt-4"}, "model_not_found", "model"),
        ({"countersign": {"issuer": "nobody"}}, "unknown_issuer", "countersign.issuer"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(served: Served, change: dict[str, Any], code: str, param: str) -> None:
    status = 404 if code in ("model_not_found", "unknown_issuer") else 400
    before = len(served.engine.submitted)
    error(served.client.post("/v1/completions", json={**COMPLETION, **change}), status, code, param)
    assert len(served.engine.submitted) == before


def test_a_missing_value_is_named(served: Served) -> None:
    error(served.client.post("/v1/completions", json={"prompt": "x"}), 400, "missing_required_parameter", "model")
    error(served.client.post("/v1/chat/completions", json={"model": MODEL}), 400, "missing_required_parameter", "messages")


def test_what_never_reaches_a_route_has_the_same_shape(served: Served) -> None:
    client, json = served.client, {"Content-Type": "application/json"}
    error(client.get("/v1/embeddings"), 404, "not_found")
    error(client.get("/v1/completions"), 405, "method_not_allowed")
    error(client.post("/v1/completions", content="{", headers=json), 400, "invalid_json")
    error(client.post("/v1/completions", content="model=x"), 415, "unsupported_media_type")
    error(client.post("/v1/completions", content="x" * 70_000, headers=json), 413, "body_too_large")
    error(client.get("/v1/models", headers={"Host": "evil.example"}), 421, "wrong_host")
    hostile = client.post("/v1/completions", content=rb'{"model": "x", "prompt": "y", "\ud800": 1}', headers=json)
    error(hostile, 400, "invalid_value")


def test_an_unexpected_error_says_nothing_of_the_text(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        client.completions.create(model=MODEL, prompt=["fine", "poison SECRET-MARKER"], max_tokens=5)
    assert failed.value.code == "internal" and "error id" in failed.value.message and "Text 1 (from 0)" in failed.value.message
    assert "SECRET-MARKER" not in failed.value.response.text


def test_a_full_queue_and_the_clients_own_retries(served: Served) -> None:
    served.on_loop(lambda: setattr(served.engine, "queue_size", 0))
    with connect(served) as client, pytest.raises(openai.InternalServerError) as refused:
        client.completions.create(**COMPLETION)
    assert refused.value.status_code == 503 and refused.value.code == "queue_full"
    assert int(refused.value.response.headers["retry-after"]) >= 1
    served.on_loop(lambda: setattr(served.engine, "queue_size", 64))


def test_a_model_that_loads(tmp_path: Path) -> None:
    engine = chat_engine()
    engine.loading.clear()
    with serving(small_settings(tmp_path), engine, wait=False) as starting, connect(starting) as client:
        for ask in (lambda: client.completions.create(**COMPLETION), lambda: client.chat.completions.create(**CHAT), client.models.list):
            with pytest.raises(openai.InternalServerError) as refused:
                ask()
            assert (refused.value.status_code, refused.value.code) == (503, "loading")
        starting.on_loop(engine.loading.set)
        until(lambda: starting.readiness()[0] == 200, "the model to load")
        assert client.completions.create(**COMPLETION).choices


def test_keys_scopes_and_rates(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, authentication=True, generate_rate="2/minute")
    with serving(settings, chat_engine()) as guarded:

        def holder(*scopes: str) -> openai.OpenAI:
            return connect(guarded, guarded.api_key("-".join(scopes), *scopes)["Authorization"].removeprefix("Bearer "))

        with connect(guarded, "csk_nobody") as stranger:
            for ask in (
                lambda: stranger.completions.create(**COMPLETION),
                lambda: stranger.chat.completions.create(**CHAT),
                stranger.models.list,
            ):
                with pytest.raises(openai.AuthenticationError) as unknown:
                    ask()
                assert unknown.value.code == "invalid_api_key" and "csk_nobody" not in unknown.value.response.text
        with holder("verify") as verifier:
            assert verifier.models.list().data
            with pytest.raises(openai.PermissionDeniedError):
                verifier.completions.create(**COMPLETION)
        with holder("generate") as writer:
            writer.completions.create(**COMPLETION)
            writer.chat.completions.create(**CHAT)
            with pytest.raises(openai.RateLimitError) as limited:
                writer.chat.completions.create(**CHAT)
            assert limited.value.code == "rate_limit_exceeded" and int(limited.value.response.headers["retry-after"]) >= 1
