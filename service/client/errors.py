"""What can go wrong, as exceptions. Those made of the service's own error answers carry its stable `code`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from service.client.retries import retry_after
from service.schemas.problem import Problem, ProblemPlace


class ClientError(Exception):
    """Anything that this client raises by itself."""


class ConnectionFailed(ClientError):
    """No answer, or half of one."""


class DeadlineExceeded(ClientError, TimeoutError):
    """The call's whole time was used up."""


class UnexpectedAnswer(ClientError):
    """An answer that this client cannot read: is the address that of the service, and of the same release?"""


class ProblemError(ClientError):
    """The service refused. `code` is stable, `detail` is for people, `errors` names places in the request."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[ProblemPlace] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
        item: int | None = None,
        error_id: str | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}" + (f" (request {request_id})" if request_id else ""))
        self.status, self.code, self.detail = status, code, detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after = retry_after
        """Seconds, when the service said when to come back."""
        self.item = item
        """Which item of a list failed while it was worked on."""
        self.error_id = error_id


class AuthenticationFailed(ProblemError):
    """401: no API key, or none that counts."""


class PermissionDenied(ProblemError):
    """403: the API key lacks the scope."""


class NotFound(ProblemError):
    """404."""


class InvalidRequest(ProblemError, ValueError):
    """400 or 422: a value that cannot be used; found by the service, or before sending."""


class RateLimited(ProblemError):
    """429."""


class ServiceUnavailable(ProblemError):
    """503: loading, overloaded, shutting down, or without its database."""


BY_STATUS: Mapping[int, type[ProblemError]] = {
    400: InvalidRequest,
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    422: InvalidRequest,
    429: RateLimited,
    503: ServiceUnavailable,
}


def problem_error(problem: Problem, *, request_id: str | None = None, retry_after: float | None = None) -> ProblemError:
    return BY_STATUS.get(problem.status, ProblemError)(
        problem.status,
        problem.code,
        problem.detail,
        errors=problem.errors or (),
        request_id=request_id,
        retry_after=retry_after,
        item=problem.item,
        error_id=problem.error_id,
    )


def refusal(response: httpx.Response) -> ProblemError:
    """The exception for an error answer, which must have been read; one that the service did not write (a proxy's) included."""
    about: dict[str, Any] = {"request_id": response.headers.get("x-request-id"), "retry_after": retry_after(response)}
    with contextlib.suppress(ValidationError):
        problem = Problem.model_validate_json(response.content)
        if problem.status == response.status_code:
            return problem_error(problem, **about)
    status = response.status_code
    detail = f"The answer was {status} {response.reason_phrase}, and not from the service itself."
    return BY_STATUS.get(status, ProblemError)(status, f"http_{status}", detail, **about)


def invalid_request(error: ValidationError) -> InvalidRequest:
    """What pydantic refuses, without the values: they may be the user's text."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    places = [ProblemPlace(pointer="".join(f"/{part}" for part in item["loc"]), detail=item["msg"], code=item["type"]) for item in found]
    return InvalidRequest(422, "invalid_input", f"{places[0].pointer}: {places[0].detail}. Nothing was sent.", errors=places)
