"""Plants texts and secrets, and looks for them in all that the service says, logs, measures and stores."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from service.observability.logs import LogFormat, configure_logging, describe_error
from tests.service.harness import Served, serving, small_settings, until

PLANTED = "Xylophone-Quokka-7391"
ADMIN_KEY = "Planted-Admin-Key-0123456789-abcdefgh"
MASTER_KEY = "c0ffee5eed" * 6 + "beef"


@pytest.fixture
def logged(restored_logs: None) -> Iterator[io.StringIO]:
    """Everything logged, by anyone, at the most talkative level."""
    stream = io.StringIO()
    configure_logging("DEBUG", "json", stream)
    logging.getLogger().setLevel(logging.DEBUG)
    for client in ("httpx", "httpcore"):  # the other end of the line, which only here shares the process
        logging.getLogger(client).setLevel(logging.CRITICAL)
    yield stream


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def whole_session(served: Served, tmp_path: Path) -> list[str]:
    """Every route, every kind of error, with the marker wherever a client can put one. Returns what was answered."""
    answers: list[str] = []
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    user = served.api_key("user", "generate", "verify")

    def post(path: str, body: Any = None, headers: dict[str, str] = user, **options: Any) -> dict[str, Any]:
        answer = served.client.post(path, headers=headers, **({"json": body} if body is not None else {}), **options)
        # what was written and asked for is the caller's own: only errors and what stands around texts are looked at
        answers.append(answer.text if answer.status_code >= 400 else "")
        answers.append(str(answer.headers))
        return answer.json() if answer.headers["content-type"].startswith("application/json") else {}

    post("/issuers", {"name": "planted", "payload_bits": 8}, admin)
    answers.append(served.client.get("/issuers", headers=user).text)
    written = post("/generate", {"prompt": f"{PLANTED} fine", "issuer": "planted", "max_new_tokens": 40, "seed": 4})["results"][0]
    post("/generate", {"prompt": PLANTED, "stream": True, "max_new_tokens": 5})
    post("/generate", {"prompt": PLANTED, "max_new_tokens": 5}, {**user, "Idempotency-Key": "k"})
    post("/v1/completions", {"model": "fake-model", "prompt": PLANTED, "max_tokens": 5})
    post("/issuers/planted/rotate", None, admin)
    post("/verify", {"text": written["text"]})
    post("/verify", {"text": PLANTED})
    answers.append(served.client.get(f"/receipts/{written['receipt_id']}", headers=user).text)
    post("/issuers/planted/retire", None, admin)
    for body in (
        {"prompt": [f"{PLANTED} poison", f"{PLANTED} more"]},
        {"prompt": f"{PLANTED} poison", "stream": True},
        {"prompt": PLANTED * 200},
        {"prompt": PLANTED, "seed": PLANTED},
        {"prompt": PLANTED, "stop": [PLANTED, 7]},
        {"prompt": PLANTED, "issuer": "planted"},
        {"prompt": [PLANTED, {"deep": PLANTED}]},
    ):
        post("/generate", {"max_new_tokens": 8, **body})
        post("/v1/completions", {"model": "fake-model", "max_tokens": 8, **body})
    post("/v1/completions", {"model": "fake-model", "prompt": f"{PLANTED} poison", "stream": True})
    for body in ({"text": f"{PLANTED} poison"}, {"text": PLANTED, "detail": PLANTED}, {"text": [PLANTED] * 300}):
        post("/verify", body)
    for broken in (f'{{"text": "{PLANTED}', f'{{"text": "{PLANTED}\\ud800"}}', PLANTED):
        post("/verify", None, {**user, "Content-Type": "application/json"}, content=broken)
    post("/verify", {"text": PLANTED}, {})  # the public
    post("/generate", {"prompt": PLANTED}, {"Authorization": f"Bearer {PLANTED}"})
    answers.append(served.client.get(f"/{PLANTED}?text={PLANTED}").json()["detail"])
    with served.holding(after=2):
        dying = served.client.stream("POST", "/generate", json={"prompt": PLANTED, "stream": True}, headers=user)
        with dying as answer:
            until(lambda: served.unfinished == 1, "the prompt to be under way")
            asyncio.run_coroutine_threadsafe(served.engine.die(), served.loop).result(10)
            answers.append([line for line in answer.iter_lines() if line][-1])
    (tmp_path / "countersign.db").rename(tmp_path / "away")
    post("/generate", {"prompt": PLANTED})
    post("/verify", {"text": PLANTED})
    (tmp_path / "away").rename(tmp_path / "countersign.db")
    for path in ("/metrics", "/audit", "/issuers"):
        answers.append(served.client.get(path, headers=admin).text)
    for path in ("/readyz", "/openapi.json", "/", "/signing-keys"):
        answers.append(served.client.get(path).text)
    return answers


def test_no_text_and_no_secret_gets_out(tmp_path: Path, logged: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    settings = small_settings(tmp_path, authentication=True, admin_key=ADMIN_KEY, master_key=MASTER_KEY)
    with serving(settings) as served:
        answers = whole_session(served, tmp_path)
        issuer_keys = served.storage.issuers.verification_keys()
    secrets: list[str] = [PLANTED, ADMIN_KEY, MASTER_KEY, base64.urlsafe_b64encode(bytes.fromhex(MASTER_KEY)).decode().rstrip("=")]
    assert len(issuer_keys) == 4  # two at the start, and one that was rotated
    for key in issuer_keys:
        secrets += [key.secret.hex(), base64.b64encode(key.secret).decode().rstrip("="), repr(key.secret)[2:-1]]
    said = {"answers": "\n".join(answers), "log": logged.getvalue(), "output": "".join(capfd.readouterr()), "settings": repr(settings)}
    for where, text in said.items():
        assert "csk_" not in text, f"a token is in the {where}"
        for secret in secrets:
            assert secret.lower() not in text.lower(), f"{secret} is in the {where}"
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        for secret in (PLANTED.encode(), ADMIN_KEY.encode(), bytes.fromhex(MASTER_KEY), *(key.secret for key in issuer_keys)):
            assert secret not in content, f"{file.name} holds {secret!r}"
    events = {line["event"] for line in lines_of(logged)}
    assert {"request", "unexpected_error"} <= events  # so it was tried
    statuses = {line["status"] for line in lines_of(logged) if line["event"] == "request"}
    assert {200, 201, 400, 401, 404, 409, 422, 500, 503} <= statuses


def test_lines_of_a_request_carry_its_id_its_route_and_its_actor(tmp_path: Path, logged: io.StringIO) -> None:
    with serving(small_settings(tmp_path, authentication=True)) as served:
        headers = {**served.api_key("somebody", "generate", "verify"), "X-Request-ID": "the-one"}
        body = served.client.post("/generate", json={"prompt": "poison"}, headers=headers).json()
        served.client.get("/issuers/default", headers={**headers, "X-Request-ID": "another"})
        served.client.get("/somewhere/private?q=1")
    lines = lines_of(logged)
    mine = {line["event"]: line for line in lines if line.get("request_id") == "the-one"}
    assert set(mine) == {"unexpected_error", "request"}
    assert mine["unexpected_error"]["error_id"] == body["error_id"]
    assert mine["unexpected_error"]["error"][0] == "builtins.ValueError"
    request = mine["request"]
    assert (request["method"], request["route"], request["status"], request["actor"]) == ("POST", "/generate", 500, "api_key/somebody")
    assert request["seconds"] >= 0 and request["received"] > 10
    assert next(line for line in lines if line.get("request_id") == "another" and line["event"] == "request")["route"] == "/issuers/{name}"
    assert "private" not in logged.getvalue() and headers["Authorization"][7:] not in logged.getvalue()


def test_exceptions_of_other_libraries_are_logged_without_their_message(logged: io.StringIO) -> None:
    try:
        try:
            raise KeyError(PLANTED)
        except KeyError as error:
            raise RuntimeError(f"about {PLANTED}") from error
    except RuntimeError as error:
        logging.getLogger("some.library").exception("it failed")
        assert describe_error(error)["error"] == ["builtins.RuntimeError", "builtins.KeyError"]
    line = json.loads(logged.getvalue())
    assert line["event"] == "it failed" and line["error"] == ["builtins.RuntimeError", "builtins.KeyError"]
    assert PLANTED not in logged.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_both_formats_log_errors(restored_logs: None, form: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging("INFO", form, stream)
    try:
        raise ValueError(PLANTED)
    except ValueError as error:
        structlog.get_logger("countersign.test").error("failed", **describe_error(error))
        logging.getLogger("uvicorn.error").error("and again", exc_info=sys.exc_info())
    assert "ValueError" in stream.getvalue() and "and again" in stream.getvalue() and PLANTED not in stream.getvalue()
