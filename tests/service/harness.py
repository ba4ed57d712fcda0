"""The service as its users meet it: a real HTTP server on loopback and a real database, with the fake engine behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

from service.app import create_app
from service.engine.protocol import Engine
from service.runtime import Runtime
from service.server import Server, server_config
from service.settings import Settings, build_settings
from service.storage.open import Storage, open_storage
from tests.service.fake_engine import FakeEngine
from watermark.calibration.key_check import KeyCheck

T = TypeVar("T")
SMALL: dict[str, Any] = {
    "batch_size": 4,
    "queue_size": 8,
    "max_prompts": 6,
    "max_texts": 6,
    "max_new_tokens": 400,
    "max_prompt_characters": 2_000,
    "max_text_characters": 3_000,
    "max_body_bytes": 64 * 1024,
    "public_text_characters": 200,
    "drain_seconds": 5.0,
    "master_key": "5eed" * 16,
}
ISSUERS = {"default": 0, "newsroom": 8}
"""Payload bits by name."""
UNCHECKED = KeyCheck(nonce_bits=4, calibration=None)


class Served:
    """A running service: `client` talks to it; `app`, `runtime`, `server` and, where it is the fake one, `engine` are its insides.

    `storage` is another connection to its database, as the command line has.
    """

    def __init__(self, app: FastAPI, server: Server, client: httpx.Client, storage: Storage) -> None:
        self.app, self.server, self.client, self.storage = app, server, client, storage
        self.runtime: Runtime = app.state.runtime

    @property
    def engine(self) -> FakeEngine:
        assert isinstance(self.runtime.engine, FakeEngine)
        return self.runtime.engine

    def generate(self, **body: Any) -> httpx.Response:
        return self.client.post("/generate", json={"prompt": "Hello", "max_new_tokens": 20, **body})

    def verify(self, text: str | list[str], **body: Any) -> httpx.Response:
        return self.client.post("/verify", json={"text": text, **body})

    def readiness(self) -> tuple[int, dict[str, Any]]:
        answer = self.client.get("/readyz")
        return answer.status_code, answer.json()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self.runtime._loop is not None, "it was not started"
        return self.runtime._loop

    @property
    def unfinished(self) -> int:
        """Generations that somebody still waits for, or that hold a place although nobody does."""
        stats = self.runtime.engine.stats()
        return stats.waiting_prompts + stats.running_prompts

    def on_loop(self, action: Callable[[], T]) -> T:
        """Do something to the insides in the thread that they belong to."""

        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self.loop).result(10)

    @contextlib.contextmanager
    def holding(self, after: int = 0) -> Iterator[None]:
        """Generations that begin in this block wait, after so many tokens, until its end."""
        self.engine.hold_after = after
        self.on_loop(self.engine.hold.clear)
        try:
            yield
        finally:
            self.on_loop(self.engine.hold.set)

    def api_key(self, name: str, *scopes: str) -> dict[str, str]:
        """A new API key, as the header of a request."""
        return {"Authorization": f"Bearer {self.storage.api_keys.create(name, scopes)[1]}"}


def small_settings(folder: Path, **changes: Any) -> Settings:
    """Settings with low limits and a database of two issuers (see ISSUERS) in `folder`."""
    settings = build_settings(**{"database_url": f"sqlite:///{folder / 'countersign.db'}", **SMALL, **changes})
    with contextlib.closing(open_storage(settings)) as storage:
        known = {record.name for record in storage.issuers.list()}
        for name, bits in ISSUERS.items():
            if name not in known:
                storage.issuers.create(name, bits)
    return settings


@contextlib.contextmanager
def serving(
    settings: Settings,
    engine: Engine | None = None,
    *,
    on_load_failure: Callable[[BaseException], None] | None = None,
    wait: bool = True,
    **options: Any,
) -> Iterator[Served]:
    """Run the service until the block ends; shuts down as on SIGTERM. `wait` until it is ready first."""
    engine = engine or FakeEngine()
    options = {"read_key_check": lambda: UNCHECKED, **options}
    app = create_app(settings, engine=engine, on_load_failure=on_load_failure, **options)
    server = Server(server_config(app, settings), app.state.runtime)
    with listen() as listening, contextlib.closing(open_storage(settings)) as storage:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started, "the server to start")
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as client:
                served = Served(app, server, client, storage)
                if wait:
                    until(lambda: served.readiness()[0] == 200, "the service to be ready")
                yield served
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server did not stop"


def listen() -> socket.socket:
    """A free port. The protocol is named, or else asyncio would leave small packets to wait for their acknowledgement."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    return listening


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
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    return body


def places(body: dict[str, Any]) -> set[str]:
    """Where in the request an error is."""
    return {place["pointer"] for place in body["errors"]}
