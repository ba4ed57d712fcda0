"""What both clients are made with, and all that they do besides input and output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
from pydantic import SecretStr

from service.client.calls import Call
from service.client.errors import ClientError, DeadlineExceeded, ProblemError, ServiceUnavailable
from service.client.retries import RetryPolicy, Send, Steps, attempts
from service.schemas.health import Readiness

TIMEOUT_SECONDS = 330.0
"""A little longer than the service itself works on a request by default."""
POLL_SECONDS = 0.25


class Connection:
    """Where the service is, and how it is asked. Its repr never shows the API key."""

    def __init__(self, base_url: str, api_key: SecretStr | str | None, timeout: float, retries: RetryPolicy | None) -> None:
        """Raises ValueError; never with the API key in it."""
        url = httpx.URL(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("base_url should be an address such as http://127.0.0.1:8000.")
        if url.userinfo:
            raise ValueError("base_url should hold no user name or password; give an API key as api_key.")
        if not timeout > 0:
            raise ValueError(f"timeout should be above 0 seconds; got {timeout!r}.")
        token = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
        if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
            raise ValueError("api_key is empty or holds a character that no API key has, such as a space or a line break.")
        self.base_url = str(url)
        self._timeout = timeout
        self._policy = RetryPolicy() if retries is None else retries
        self._token = None if token is None else SecretStr(token)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, api_key={'None' if self._token is None else '…'})"

    def _http_options(self) -> dict[str, Any]:
        headers = {"User-Agent": "countersign-client"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        return {"base_url": self.base_url, "headers": headers}

    def _request_options(self, call: Call[Any], step: Send) -> dict[str, Any]:
        body = {} if call.body is None else {"content": call.content(), "headers": {"Content-Type": "application/json", **call.headers}}
        return {"method": call.method, "url": call.path, "timeout": step.timeout, **body}

    def _steps(self, call: Call[Any], seconds: float | None) -> Steps:
        policy = self._policy if call.retried else replace(self._policy, retries=0)
        return attempts(policy, self._timeout if seconds is None else seconds, call.repeatable)


class Waiting:
    """For a service that starts: how long to go on asking it."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._seconds, self._now = seconds, now
        self._deadline = now() + seconds

    def left(self) -> float:
        return max(self._deadline - self._now(), 0.001)

    def pause(self, seen: Readiness | ClientError) -> float:
        """Seconds until it is asked again. Raises what ends the wait: no time left, or no hope."""
        if isinstance(seen, ProblemError) and seen.status < 500:
            raise seen
        if isinstance(seen, Readiness) and seen.status == "failed":
            raise ServiceUnavailable(503, "load_failed", seen.detail)
        if self._now() + POLL_SECONDS >= self._deadline:
            state = f"{seen.status}: {seen.detail}" if isinstance(seen, Readiness) else str(seen)
            raise DeadlineExceeded(f"The service was not ready within {self._seconds:g} seconds. {state}")
        return POLL_SECONDS
