"""Server-sent events: anything that yields frames, to an answer that keeps quiet connections open and stops when the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.api.generation import disconnected

KEEP_ALIVE_SECONDS = 15.0
EVENT_CONTENT: dict[str, Any] = {
    "text/event-stream": {
        "itemSchema": {
            "type": "object",
            "properties": {"event": {"type": "string"}, "data": {"type": "string", "description": "JSON."}},
            "required": ["data"],
        }
    }
}
"""For a route's OpenAPI entry, as OpenAPI 3.2 describes a sequence of events; readers of 3.1 pass over it."""
HEADERS = {"X-Accel-Buffering": "no"}  # reverse proxies would collect the pieces


def event_stream(request: Request, frames: AsyncGenerator[bytes, None], *, keep_alive: float = KEEP_ALIVE_SECONDS) -> StreamingResponse:
    """`frames` makes its own error event: once this has begun, no status can be sent any more."""
    return _EventStream(_kept_alive(request, frames, keep_alive), media_type="text/event-stream", headers=HEADERS)


class _EventStream(StreamingResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's own watch for a disconnect can end the answer before the frames were begun, and then nothing would end them.
        await self.stream_response(send)


async def _kept_alive(request: Request, frames: AsyncGenerator[bytes, None], keep_alive: float) -> AsyncGenerator[bytes, None]:
    gone = asyncio.ensure_future(disconnected(request))
    step: asyncio.Future[bytes] | None = None
    try:
        while True:
            step = asyncio.ensure_future(anext(frames))
            while not step.done():
                await asyncio.wait({step, gone}, timeout=keep_alive, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                if not step.done():
                    yield KEEPALIVE_COMMENT
            try:
                frame = step.result()
            except StopAsyncIteration:
                return
            yield frame
    finally:
        gone.cancel()
        if step is not None:
            step.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
                await step  # a generator that runs cannot be closed
        await frames.aclose()
