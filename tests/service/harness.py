"""The service as its users meet it: a real HTTP server on loopback, with the fake model behind it."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.cli import listen
from service.engine import Model
from service.runtime import Runtime
from service.server import Server, server_config
from service.settings import Settings, build_settings
from tests.fakes import fake_watermarked_model
from watermark.codebook import keys
from watermark.codebook.keys import KeyRing

SMALL: dict[str, Any] = {
    "batch_size": 4,
    "queue_size": 8,
    "max_prompts": 6,
    "max_texts": 6,
    "max_new_tokens": 400,
    "max_prompt_characters": 2_000,
    "max_text_characters": 3_000,
    "max_body_bytes": 64 * 1024,
    "restart_seconds": 0.4,
    "drain_seconds": 5.0,
}
PAYLOAD_BITS = {"default": 0, "newsroom": 8}


class Served:
    """A running service: `client` talks to it; `app`, `runtime` and `server` are its insides."""

    def __init__(self, app: FastAPI, server: Server, client: httpx.Client) -> None:
        self.app, self.server, self.client = app, server, client
        self.runtime: Runtime = app.state.runtime

    def generate(self, **body: Any) -> httpx.Response:
        return self.client.post("/generate", json={"prompt": "Hello", "max_new_tokens": 20, **body})

    def verify(self, text: str | list[str], **body: Any) -> httpx.Response:
        return self.client.post("/verify", json={"text": text, **body})

    def readiness(self) -> tuple[int, dict[str, Any]]:
        answer = self.client.get("/readyz")
        return answer.status_code, answer.json()


def small_settings(folder: Path, **changes: Any) -> Settings:
    """Settings with low limits and a key ring of two issuers (see PAYLOAD_BITS) in `folder`."""
    settings = build_settings(**{"keys": folder / "keys", **SMALL, **changes})
    ring = KeyRing(settings.keys)
    for name, bits in PAYLOAD_BITS.items():
        if name not in ring.names():
            # The service is shared by the tests of a module, so the secrets that tests/conftest.py makes repeatable come too late.
            drawn = {**vars(secrets), "token_bytes": lambda size, name=name: hashlib.shake_256(name.encode()).digest(size)}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(keys, "secrets", SimpleNamespace(**drawn))
                ring.create(name, bits)
    return settings


@contextlib.contextmanager
def serving(
    settings: Settings,
    model: Model | None = None,
    *,
    load: Callable[[Settings], Model] | None = None,
    on_load_failure: Callable[[BaseException], None] | None = None,
    wait: bool = True,
) -> Iterator[Served]:
    """Run the service until the block ends; shuts down as on SIGTERM. `wait` for the model first."""
    model = None if load else model or fake_watermarked_model()
    app = create_app(settings, model, on_load_failure=on_load_failure, **({"load": load} if load else {}))
    server = Server(server_config(app, drain_seconds=int(settings.drain_seconds)), app.state.runtime)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started, "the server to start")
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as client:
                served = Served(app, server, client)
                if wait:
                    until(lambda: served.readiness()[0] == 200, "the model to load")
                yield served
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server did not stop"


def until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an error answer, after checking that it is a proper one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["code"] == code, body
    assert body["type"] == f"urn:countersign:problem:{code}"
    assert body["title"] and body["detail"] and body["instance"].startswith("/")
    if status == 503:
        assert int(answer.headers["retry-after"]) >= 1
    return body
