"""Every error answer of the service: RFC 9457 problem+json with a stable `code`.

Messages of errors that the caller can mend are passed on; anything else is logged under an id, and the answer carries that
id only: a message made for the operator may hold a path, and that of an unknown error may hold anything.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from service.engine.protocol import Unavailable
from service.observability.logs import describe_error
from service.storage.errors import Conflict, StorageUnavailable
from watermark.errors import Cancelled, CountersignError, InvalidInput, UnknownIssuer

log = structlog.get_logger("countersign.errors")

MAX_ERRORS = 20
MENDABLE: dict[type[CountersignError], int] = {
    Conflict: 409,
    InvalidInput: 422,
    UnknownIssuer: 404,
    Cancelled: 503,
    StorageUnavailable: 503,
}
"""Library errors whose message is for the caller, and their status; subclasses share it. All others are the operator's: 500."""
RETRY_AFTER = 5
CLIENT_GONE = 499
"""The status that other servers log for a client that hung up; nothing can be sent."""

HTTP_DETAILS = {
    404: "There is nothing at this address. GET /openapi.json describes the API.",
    405: "This address does not take that method.",
}
HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}

UNION_TAGS = ("text", "list")
"""Branch names that pydantic puts into the path of `text: str | list[str]`; not part of the JSON, so left out of pointers."""


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


class Problem(HTTPException):
    """Raise it anywhere below a route. `errors` lists places in the request: `{"pointer", "detail", "code"}`."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.errors = list(errors)
        self.extra = extra

    def body(self, instance: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:countersign:problem:{self.code}",
            "title": HTTPStatus(self.status_code).phrase,
            "status": self.status_code,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            **self.extra,
        }
        if self.errors:
            body["errors"] = self.errors[:MAX_ERRORS]
            if len(self.errors) > MAX_ERRORS:
                body["further_errors"] = len(self.errors) - MAX_ERRORS
        return body

    def response(self, instance: str) -> ProblemResponse:
        return ProblemResponse(self.body(instance), self.status_code, headers=dict(self.headers or {}))


class ProblemResponse(JSONResponse):
    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        # ASCII escapes: a hostile field name can hold half a surrogate pair, which has no UTF-8 form
        return json.dumps(content, ensure_ascii=True, allow_nan=False).encode("ascii")


Shape = Callable[[Problem], Response]
"""How a part of the API that keeps somebody else's conventions shows a problem."""


def refuse(pointer: str, detail: str, *, code: str = "invalid_input", status: int = 422) -> Problem:
    """A value at one place of the body that cannot be used."""
    return Problem(status, code, f"{pointer}: {detail}", errors=[{"pointer": pointer, "detail": detail, "code": code}])


def request_pointer(path: Sequence[str | int]) -> str:
    """JSON pointer (RFC 6901) into the request body."""
    parts = [p for i, p in enumerate(path) if not (i == 1 and p in UNION_TAGS)]
    return "".join("/" + str(p)[:80].replace("~", "~0").replace("/", "~1") for p in parts)


def problem_of(error: BaseException, *, pointer: str | None = None) -> Problem:
    """The answer to any exception; what the caller cannot mend is logged here under an id."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Unavailable):
        return Problem(503, error.code, error.detail, headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, HTTPException):
        status = error.status_code
        return Problem(status, HTTP_CODES.get(status, "http_error"), HTTP_DETAILS.get(status, str(error.detail)), headers=error.headers)
    for family, status in MENDABLE.items():
        if isinstance(error, family):
            place = [{"pointer": pointer, "detail": str(error), "code": error.code}] if pointer else []
            headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else None
            return Problem(status, error.code, str(error), errors=place, headers=headers)
    error_id = secrets.token_hex(8)
    log.error("unexpected_error", error_id=error_id, **describe_error(error))
    code = error.code if isinstance(error, CountersignError) else "internal"
    detail = f"Something went wrong on the server. Its log has the details under error id {error_id}."
    return Problem(500, code, detail, error_id=error_id)


def answer_to(problem: Problem, scope: Scope) -> Response:
    """The answer in the shape of the part of the API that was asked, and counted."""
    state = scope["app"].state
    state.runtime.metrics.refused(problem.code, problem.status_code)
    path: str = scope["path"]
    for prefix, shape in state.problem_shapes.items():
        if path.startswith(prefix):
            return shape(problem)
    return problem.response(path)


def _validation_problem(request: Request, error: RequestValidationError) -> Problem:
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        detail = f"The body is not valid JSON: {found[0]['ctx']['error']} at character {found[0]['loc'][-1]}."
        return Problem(400, "invalid_json", detail)
    outside = next((item for item in found if item["loc"][0] != "body"), None)
    if outside is not None:
        where = f"{str(outside['loc'][0]).capitalize()} {outside['loc'][-1]}"
        return Problem(422, "invalid_input", f"{where}: {_sentence(outside)}")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and not (media_type == "application/json" or media_type.endswith("+json")):
        return Problem(415, "unsupported_media_type", "Send the body as JSON, with the header Content-Type: application/json.")
    places = [  # pydantic's `input` and `ctx` quote the request and stay out
        {"pointer": request_pointer(item["loc"][1:]), "detail": _sentence(item), "code": item["type"]} for item in found
    ]
    where = places[0]["pointer"] or "The body"
    return Problem(422, "invalid_input", f"{where}: {places[0]['detail']}", errors=places)


def _sentence(item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "There is no field of this name."
    if item["type"] == "missing":
        return "This field is required." if len(item["loc"]) > 1 else "A JSON object is required."
    message = str(item["msg"]).removeprefix("Value error, ").rstrip(".")
    if message.startswith("Input should be "):
        message = "It should be " + message.removeprefix("Input should be ")
    return message + "."


async def _answer(request: Request, error: Exception) -> Response:
    problem = _validation_problem(request, error) if isinstance(error, RequestValidationError) else problem_of(error)
    if problem.status_code == 405:
        # Of several routes that share a path the router names the methods of the first only.
        operations = request.app.openapi()["paths"].get(getattr(request.scope.get("route"), "path", None), {})
        problem.headers = {**(problem.headers or {}), **({"Allow": ", ".join(sorted(map(str.upper, operations)))} if operations else {})}
    return answer_to(problem, request.scope)


async def _nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)  # for the log and the metrics


def install(app: FastAPI, shapes: Mapping[str, Shape]) -> None:
    """Problem+json for all that a route, the router or validation raises, other `shapes` below their path prefixes.

    Unknown errors end in the middleware.
    """
    app.state.problem_shapes = dict(shapes)
    for kind in (RequestValidationError, HTTPException, Unavailable, CountersignError):
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(ClientGone, _nobody)
