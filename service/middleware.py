"""What surrounds every request: its id, its log line, limits on host and size, security headers, and the last resort for errors."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import CLIENT_GONE, ClientGone, Problem, answer_to, problem_of
from service.settings import Settings

log = structlog.get_logger("countersign.access")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Any other word would be a name of the client's choice in logs and metrics."""
PROBES = ("/livez", "/readyz", "/metrics")
"""Asked every few seconds by whoever watches the service; logged only when debugging."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RequestGuard:
    """Plain ASGI, so that a disconnect reaches the routes. Sits outside of everything that may raise.

    Gives `request.state` its `request_id`, `arrived` (monotonic seconds), `actor` (for the log line; authentication sets it) and
    `answer_headers`, which any answer to this request will carry, an error's too.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.max_body_bytes = settings.max_body_bytes
        # A web page elsewhere can point its own host name at 127.0.0.1 (DNS rebinding) and would then pass as same-origin. Where
        # every request needs a key that the page has not got, the name does not matter.
        self.hosts = None if settings.authenticated else {*LOCAL_HOSTS, settings.host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        began = time.monotonic()
        answer_headers: dict[str, str] = {}
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, arrived=began, actor=None, answer_headers=answer_headers)
        status = 0
        received = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in SECURITY_HEADERS.items():
                    answer.setdefault(name, value)
                for name, value in answer_headers.items():
                    answer.setdefault(name, value)
                answer["X-Request-ID"] = request_id
            await send(message)

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body_bytes:
                raise self._too_large()
            return message

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                self._admit(scope, headers)
                await self.app(scope, receive_counted, send_with_headers)
            except ClientGone:
                status = CLIENT_GONE
            except Exception as error:
                problem = problem_of(error)
                if not status:  # else the answer has begun and can only be broken off
                    await answer_to(problem, scope)(scope, receive, send_with_headers)
            finally:
                route = getattr(scope.get("route"), "path", None)  # never the raw path: anything can be in it
                seconds = round(time.monotonic() - began, 4)
                method = scope["method"] if scope["method"] in METHODS else None
                write = log.debug if route in PROBES else log.info
                write("request", method=method, route=route, status=status, seconds=seconds, received=received, actor=state["actor"])

    def _admit(self, scope: Scope, headers: Headers) -> None:
        """Raises Problem for what is refused by its head alone."""
        if scope["method"] not in METHODS:
            raise Problem(405, "method_not_allowed", "This server knows no such method.", headers={"Allow": "GET, POST"})
        if self.hosts is not None:
            if _host_name(headers.get("host", "")) not in self.hosts:
                raise Problem(421, "wrong_host", "This server answers only to local names such as 127.0.0.1 and localhost.")
            self._same_origin(scope, headers)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.max_body_bytes:
            raise self._too_large()

    def _same_origin(self, scope: Scope, headers: Headers) -> None:
        """A page elsewhere may send a POST here that needs no body and no key, such as one that retires an issuer. Browsers say so."""
        origin = headers.get("origin")
        if (
            origin is not None
            and scope["method"] == "POST"
            and origin.lower().partition("://")[2] != headers.get("host", "").strip().lower()
        ):
            raise Problem(403, "cross_origin", "Web pages of other origins may change nothing here.")

    def _too_large(self) -> Problem:
        return Problem(413, "body_too_large", f"The body may have at most {self.max_body_bytes} bytes.", headers={"Connection": "close"})


def _host_name(host: str) -> str:
    """The `Host` header without its port."""
    return re.sub(r":\d*$", "", host.strip().lower()) if not host.endswith("]") else host.lower()
