"""What is different behind Ray's HTTP proxy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Proxied:
    """The service for Ray's proxy, which names every request: it tells the service the name and puts it into the answer itself.

    An ingress takes requests as soon as it has started, and in a rolling restart the old one then goes. So the start is over when
    requests can be served, which `ready` waits for; that must end in time, or nobody could ask such an ingress what is wrong.
    """

    def __init__(self, app: ASGIApp, ready: Callable[[], Awaitable[None]]) -> None:
        self._app, self._ready = app, ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def changed(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._ready()
            elif message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["x-request-id"]
            await send(message)

        await self._app(scope, receive, changed)
