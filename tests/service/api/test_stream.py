"""`POST /generate` with `stream`: server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from service.api.sse import event_stream
from tests.service.harness import Served, problem, serving, small_settings, until

Event = tuple[str, dict[str, Any]]


@contextmanager
def streaming(served: Served, **body: Any) -> Iterator[tuple[httpx.Response, Iterator[Event]]]:
    content = {"prompt": "Hello", "max_new_tokens": 20, "stream": True, **body}
    with served.client.stream("POST", "/generate", json=content) as answer:
        yield answer, _events(answer.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[Event]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_pieces_add_up_to_the_text_that_comes_without_a_stream(served: Served) -> None:
    request = {"prompt": ["One", "Two", "Three"], "seed": 8}
    with streaming(served, **request) as (answer, events):
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no" and answer.headers["cache-control"] == "no-store"
        found = list(events)
    written = ["", "", ""]
    results: dict[int, dict[str, Any]] = {}
    for name, data in found[:-1]:
        assert data["index"] not in results or name != "piece", "a piece after its result"
        if name == "piece":
            written[data["index"]] += data["text"]
            assert data["tokens"] == len(written[data["index"]])
        else:
            assert name == "result"
            results[data["index"]] = data
    name, end = found[-1]
    assert name == "done" and end["id"] == answer.headers["x-request-id"] and end["model"] == "fake-model" and end["timings"]
    whole = served.generate(**request).json()["results"]
    assert written == [results[i]["text"] for i in range(3)] == [result["text"] for result in whole]
    for i in range(3):
        assert {**results[i], "id": None, "receipt_id": None} == {**whole[i], "index": i, "id": None, "receipt_id": None}
        assert results[i]["receipt_id"]


def test_refusals_before_the_first_byte_have_their_status(served: Served) -> None:
    problem(served.generate(stream=True, issuer="nobody"), 404, "unknown_issuer")
    problem(served.generate(stream=True, prompt="a" * 2_001), 422, "prompt_too_long")
    problem(served.generate(stream=True, temperature=-1), 422, "invalid_input")
    served.on_loop(lambda: setattr(served.engine, "queue_size", 0))
    try:
        problem(served.generate(stream=True), 503, "queue_full")
    finally:
        served.on_loop(lambda: setattr(served.engine, "queue_size", 64))


def test_an_error_in_the_middle_is_an_event_and_the_last_one(served: Served) -> None:
    with streaming(served, prompt=["good", "poison"]) as (answer, events):
        found = list(events)
    assert answer.status_code == 200
    name, data = found[-1]
    assert name == "error" and data["status"] == 500 and data["code"] == "internal" and data["item"] == 1
    assert "digest" not in str(data) and not any(name in ("done", "error") for name, _ in found[:-1])
    until(lambda: served.unfinished == 0, "the other prompt to be given up")


def test_a_worker_that_dies_mid_stream_is_told(served: Served) -> None:
    with served.holding(after=3), streaming(served) as (_, events):
        assert [next(events)[1]["tokens"] for _ in range(3)] == [1, 2, 3]
        asyncio.run_coroutine_threadsafe(served.engine.die(), served.loop).result(10)
        (last,) = events
        assert last[0] == "error" and (last[1]["status"], last[1]["code"]) == (503, "worker_died")


@pytest.mark.parametrize("after", [0, 3])
def test_a_client_that_leaves_frees_its_places(served: Served, after: int) -> None:
    with served.holding(after=after):
        with streaming(served, prompt=["a", "b"]) as (_, events):
            if after:
                next(events)
            until(lambda: served.unfinished == 2, "both to be under way")
        until(lambda: served.unfinished == 0, "the places to be given back")
    assert served.generate().status_code == 200


def test_a_deadline_ends_a_stream_with_an_error_event(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, deadline_seconds=0.3)) as served, served.holding(after=2), streaming(served) as (_, events):
        *pieces, last = events
        assert len(pieces) == 2 and last[0] == "error" and last[1]["code"] == "deadline_exceeded"
        until(lambda: served.unfinished == 0, "the place to be given back")


def _request(disconnect: asyncio.Event) -> Request:
    async def receive() -> Message:
        await disconnect.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


def test_quiet_streams_are_kept_alive_by_comments() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"first"
        await asyncio.sleep(0.08)
        yield b"last"

    async def main() -> list[bytes | memoryview | str]:
        answer = event_stream(_request(asyncio.Event()), frames(), keep_alive=0.02)
        return [part async for part in answer.body_iterator]

    first, *between, last = asyncio.run(main())
    assert (first, last) == (b"first", b"last")
    assert 2 <= len(between) <= 4 and set(between) == {b": ping\n\n"}


def test_a_disconnect_closes_what_makes_the_frames() -> None:
    async def main() -> bool:
        closed = asyncio.Event()

        async def frames() -> AsyncGenerator[bytes, None]:
            try:
                yield b"first"
                await asyncio.sleep(60)
            finally:
                closed.set()

        leave = asyncio.Event()
        parts = aiter(event_stream(_request(leave), frames()).body_iterator)
        assert await anext(parts) == b"first"
        leave.set()
        assert [part async for part in parts] == []
        return closed.is_set()

    assert asyncio.run(main())


def test_a_client_that_left_before_the_first_byte_is_noticed_all_the_same() -> None:
    async def main() -> bool:
        closed = asyncio.Event()

        async def frames() -> AsyncGenerator[bytes, None]:
            try:
                await asyncio.sleep(60)
                yield b"never"
            finally:
                closed.set()  # here a generation gives back its places

        async def send(message: Message) -> None:
            await asyncio.sleep(0)

        left = asyncio.Event()
        left.set()
        request = _request(left)
        await event_stream(request, frames())({"type": "http"}, request.receive, send)
        return closed.is_set()

    assert asyncio.run(main())
