"""A fake of the service for tests of the page: the real page, and an API that answers what a test tells it to, when it tells it to.

It exists for what the real service does not do on command: fail at a given byte, be slow, be overloaded, come back. Its answers are
built with the service's own schemas, so that they have the shapes that the service sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from service.page import page_router
from service.schemas.common import Timings
from service.schemas.generate import Marking, Piece, StreamedResult, StreamEnd, Usage
from service.schemas.health import Readiness
from service.schemas.issuers import Issuer, IssuerKeyInfo, IssuersAnswer
from service.schemas.problem import Problem
from service.schemas.verify import VerifyAnswer
from tests.service.page.verdicts import verdict

TIMINGS = Timings(waited_seconds=0.01, first_token_seconds=0.1, worked_seconds=0.5)
KEY = "csk_fake_0123456789abcdefghijklmnopqrstuvwxyz"
RECEIPT = '{"receipt": {"id": "r-1", "tokens": 9007199254740993}, "signature": "c2ln"}'
WORDS = (" the", " boats", " lay", " still", " and", " nobody", " spoke", " until", " the", " bell", " rang")


def issuer(name: str, payload_bits: int = 0, retired: bool = False) -> Issuer:
    created, until = "2026-01-02T03:04:05Z", "2026-05-06T07:08:09Z" if retired else None
    key = IssuerKeyInfo.model_validate({"version": 1, "payload_bits": payload_bits, "created": created, "retired_at": until})
    return Issuer.model_validate({**key.model_dump(), "name": name, "key_version": 1, "keys": [key]})


class FakeServer:
    """Set its fields, then let the page ask. `asked` holds the requests so far: method, path, headers and body."""

    def __init__(self) -> None:
        self.app = self._app()
        self.reset()

    def reset(self) -> None:
        """As new: ready, without authentication, and willing."""
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.readiness: dict[str, Any] = {
            "status": "ready",
            "detail": "Requests are served.",
            "model": "fake-model",
            "checkpoint": "fake-checkpoint",
            "waiting_prompts": 0,
            "waiting_texts": 0,
            "max_new_tokens": 400,
            "max_prompt_characters": 2_000,
            "max_text_characters": 120_000,
            "public_text_characters": 20_000,
            "authentication": False,
        }
        self.issuers: list[Issuer] = [issuer("default"), issuer("newsroom", 8), issuer("old-paper", 8, retired=True)]
        self.pieces: tuple[str, ...] = WORDS
        self.pace = 0.0
        """Seconds between pieces."""
        self.chunk = 0
        """Bytes of the event stream sent at once; 0 sends whole events."""
        self.marking: dict[str, Any] = {"watermark": True, "p_value": 3.2e-9, "reason": None}
        self.break_after: int | None = None
        """Pieces after which the stream ends without a word."""
        self.error_after: int | None = None
        """Pieces after which an `error` event comes."""
        self.verdict: dict[str, Any] = verdict()
        self.verify_seconds = 0.0
        self.problems: dict[str, tuple[int, str, str, dict[str, Any]]] = {}
        """Path → status, Retry-After (or ""), detail, further members: what is answered there instead."""
        self.gone = threading.Event()
        """Set when the page has broken off a stream."""

    # -- what the page asks for

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.include_router(page_router())
        app.add_api_route("/readyz", self._readyz)
        app.add_api_route("/issuers", self._issuers)
        app.add_api_route("/receipts/{receipt_id}", self._receipt)
        app.add_api_route("/generate", self._generate, methods=["POST"])
        app.add_api_route("/verify", self._verify, methods=["POST"])
        return app

    async def _readyz(self) -> Response:
        state = Readiness.model_validate(self.readiness)
        return JSONResponse(state.model_dump(), 200 if state.status == "ready" else 503)

    async def _issuers(self, request: Request) -> Response:
        return await self._refused(request) or JSONResponse(IssuersAnswer(issuers=self.issuers).model_dump(mode="json"))

    async def _receipt(self, request: Request, receipt_id: str) -> Response:
        return await self._refused(request) or Response(RECEIPT, media_type="application/json")

    async def _verify(self, request: Request) -> Response:
        await asyncio.sleep(self.verify_seconds)
        answer = VerifyAnswer.model_validate(
            {"results": [self.verdict], "model": "fake-model", "checkpoint": "fake-checkpoint", "timings": TIMINGS}
        )
        return await self._refused(request) or Response(answer.model_dump_json(), media_type="application/json")

    async def _generate(self, request: Request) -> Response:
        refused = await self._refused(request)
        return refused or StreamingResponse(self._stream(await request.json()), media_type="text/event-stream")

    async def _refused(self, request: Request) -> Response | None:
        body = await request.json() if request.method == "POST" else None
        self.asked.append((request.method, str(request.url.path), dict(request.headers), body))
        public = request.url.path == "/verify" and "authorization" not in request.headers
        if self.readiness["authentication"] and not public and request.headers.get("authorization") != f"Bearer {KEY}":
            return self._problem(request, 401, "", "There is no such API key.")
        if request.url.path in self.problems:
            return self._problem(request, *self.problems[request.url.path])
        return None

    @staticmethod
    def _problem(request: Request, status: int, retry_after: str, detail: str, more: dict[str, Any] | None = None) -> Response:
        named = {"type": "urn:countersign:problem:x", "title": "Refused", "instance": request.url.path, "code": "x"}
        problem = Problem.model_validate({**named, "status": status, "detail": detail, **(more or {})})
        headers = {"Retry-After": retry_after} if retry_after else {}
        return JSONResponse(problem.model_dump(mode="json"), status, headers, media_type="application/problem+json")

    async def _stream(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        whole = False
        try:
            buffer = b""
            for event in self._events(body):
                if event.startswith(b"event: piece"):
                    await asyncio.sleep(self.pace)
                buffer += event
                size = self.chunk or len(buffer)
                while len(buffer) >= size > 0:
                    yield buffer[:size]
                    buffer = buffer[size:]
            yield buffer
            whole = True
        finally:
            if not whole:
                self.gone.set()

    def _events(self, body: dict[str, Any]) -> Iterator[bytes]:
        yield b": keep-alive\n\n"
        for place, text in enumerate([*self.pieces, None]):
            if place == self.error_after:
                failed = {"type": "x", "title": "Service Unavailable", "status": 503, "code": "worker_died", "instance": "/generate"}
                yield _event("error", Problem(detail="The generation worker stopped and is restarted.", **failed))
                return
            if place == self.break_after:
                return
            if text is None:
                break
            yield _event("piece", Piece(index=0, text=text, tokens=place + 1), line_end=b"\r\n" if place % 2 else b"\n")
            yield b": keep-alive\n\n"
        tokens, on = len(self.pieces), body["strength"] > 0
        named = {
            "issuer": body.get("issuer") if on else None,
            "payload": body.get("payload"),
            "tokens": tokens,
            "marked_tokens": tokens * on,
        }
        marking = Marking.model_validate({**named, **self.marking})
        text = "".join(self.pieces)
        receipt = "r-1" if marking.watermark and body["receipt"] else None
        usage = Usage(prompt_tokens=3, new_tokens=tokens)
        seed = body.get("seed", 4711)
        yield _event(
            "result",
            StreamedResult(index=0, id="t", text=text, marking=marking, usage=usage, finish_reason="length", seed=seed, receipt_id=receipt),
        )
        yield _event("done", StreamEnd(id="g", model="fake-model", checkpoint="fake-checkpoint", timings=TIMINGS))

    # -- for tests

    def last(self, path: str) -> tuple[dict[str, str], Any]:
        """Headers and body of the last request there."""
        return next((headers, body) for _, asked, headers, body in reversed(self.asked) if asked == path)


def _event(name: str, answer: Any, line_end: bytes = b"\n") -> bytes:
    return b"event: " + name.encode() + line_end + b"data: " + answer.model_dump_json().encode() + line_end * 2


@contextlib.contextmanager
def listening(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve `app` on loopback until the block ends; gives the address."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the fake server did not start"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive(), "the fake server did not stop"
