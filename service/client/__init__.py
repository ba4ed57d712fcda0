"""A client for the service, sync and async. It needs httpx and pydantic only: no model, no web framework.

from service.client import Client

with Client("http://127.0.0.1:8000", api_key="csk_…") as client:
    answer = client.generate("The harbour was quiet that morning, and", issuer="default", max_new_tokens=200)
    verdict = client.verify(answer.results[0].text).results[0]
"""

from __future__ import annotations

from service.client.asynchronous import AsyncClient
from service.client.calls import GenerateOptions, VerifyOptions
from service.client.errors import (
    AuthenticationFailed,
    ClientError,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProblemError,
    RateLimited,
    ServiceUnavailable,
    UnexpectedAnswer,
)
from service.client.events import StreamEvent
from service.client.retries import RetryPolicy
from service.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "AuthenticationFailed",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "GenerateOptions",
    "InvalidRequest",
    "NotFound",
    "PermissionDenied",
    "ProblemError",
    "RateLimited",
    "RetryPolicy",
    "ServiceUnavailable",
    "StreamEvent",
    "UnexpectedAnswer",
    "VerifyOptions",
]
