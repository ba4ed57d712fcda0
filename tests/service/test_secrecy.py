"""Plants texts and looks for them, and for the keys, in all that the service says or logs."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from service.logging import LogFormat, configure_logging, describe_error
from tests.service.harness import serving, small_settings, until
from tests.service.wrappers import DyingModel, PoisonedModel
from watermark.codebook.keys import KeyRing

PLANTED = "Xylophone-Quokka-7391"


@pytest.fixture
def logged(restored_logs: None) -> Iterator[io.StringIO]:
    """Everything logged, by anyone, at the most talkative level."""
    stream = io.StringIO()
    configure_logging("DEBUG", "json", stream)
    logging.getLogger().setLevel(logging.DEBUG)
    for client in ("httpx", "httpcore"):  # the other end of the line, which only here shares the process
        logging.getLogger(client).setLevel(logging.CRITICAL)
    yield stream


class LeakyModel(PoisonedModel, DyingModel):
    """Fails or dies with errors that quote the text (see both)."""


def test_no_text_and_no_key_gets_out(tmp_path: Path, logged: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    settings = small_settings(tmp_path)
    (settings.keys / "broken.json").write_text(json.dumps({"secret": PLANTED}))
    answers: list[str] = []
    with serving(settings, LeakyModel()) as served:
        for content in (
            {"prompt": f"{PLANTED} fine"},
            {"prompt": [f"{PLANTED} poison", f"{PLANTED} more"]},
            {"prompt": f"{PLANTED} venom"},
            {"prompt": f"{PLANTED} kill"},
            {"prompt": f"{PLANTED}" * 200},
            {"prompt": PLANTED, "seed": PLANTED},
            {"prompt": PLANTED, "issuer": "broken"},
            {"prompt": [PLANTED, {"deep": PLANTED}]},
        ):
            answers.append(served.client.post("/generate", json={"max_new_tokens": 8, **content}).text)
        for content in ({"text": f"{PLANTED} poison"}, {"text": f"{PLANTED} kill"}, {"text": PLANTED, "issuers": ["default"]}):
            answers.append(served.client.post("/verify", json=content).text)
        for broken in (f'{{"text": "{PLANTED}', f'{{"text": "{PLANTED}\\ud800"}}', f"{PLANTED}"):
            answers.append(served.client.post("/verify", content=broken, headers={"Content-Type": "application/json"}).text)
        answers.append(served.client.get(f"/{PLANTED}?text={PLANTED}").json()["detail"])
        until(lambda: served.readiness()[0] == 200, "the workers to be back")
        for path in ("/issuers", "/readyz", "/openapi.json", "/"):
            answers.append(served.client.get(path).text)
    said = {"answers": "\n".join(answers), "log": logged.getvalue(), "output": "".join(capfd.readouterr())}
    secrets = [key.secret.hex() for key in (KeyRing(settings.keys).load(name) for name in ("default", "newsroom"))]
    for where, text in said.items():
        for secret in (PLANTED, *secrets, *(secret.upper() for secret in secrets)):
            assert secret not in text, f"{secret} is in the {where}"
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    events = {line["event"] for line in lines}
    assert {"request", "batch_failed", "worker_died", "worker_restarted", "unexpected_error"} <= events  # so all of it was tried
    failed = next(line for line in lines if line["event"] == "batch_failed")
    assert failed["error"] == ["builtins.ValueError"] and any("wrappers.py" in place for place in failed["trace"])


def test_lines_of_a_request_carry_its_id_and_no_address(tmp_path: Path, logged: io.StringIO) -> None:
    with serving(small_settings(tmp_path), PoisonedModel()) as served:
        body = served.client.post("/generate", json={"prompt": "poison"}, headers={"X-Request-ID": "the-one"}).json()
        served.client.get("/somewhere/private?q=1")
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    mine = [line for line in lines if line.get("request_id") == "the-one"]
    assert {line["event"] for line in mine} == {"unexpected_error", "request"}
    assert next(line for line in mine if line["event"] == "unexpected_error")["error_id"] == body["error_id"]
    assert next(line for line in mine if line["event"] == "request")["status"] == 500
    assert next(line for line in lines if line["event"] == "batch_failed")["tags"] == ["the-one"]
    assert "private" not in logged.getvalue()


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
