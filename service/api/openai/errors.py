"""Errors under /v1 in OpenAI's form, so that its clients raise the exceptions that their users expect."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from service.api.common import ANY_ERROR, RETRY_AFTER, WHY
from service.errors import Problem, ProblemResponse
from service.schemas.openai import OpenAIError, OpenAIErrorAnswer

PREFIX = "/v1/"
CODES = {
    "unauthenticated": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "prompt_too_long": "context_length_exceeded",
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
}
"""Where OpenAI has a code of its own for the same thing; clients compare these."""
OWN = ("unsupported_parameter", "token_array")
"""Codes of our schemas; pydantic's others say which check failed, which is more than a caller needs."""


class OpenAIErrorResponse(ProblemResponse):
    media_type = "application/json"


def openai_shape(problem: Problem) -> Response:
    status = 400 if problem.status_code == 422 else problem.status_code  # OpenAI's clients know 422, its API does not
    content = error_answer(problem).model_dump()
    return OpenAIErrorResponse(content, status, headers=dict(problem.headers or {}))


def error_answer(problem: Problem) -> OpenAIErrorAnswer:
    place = problem.errors[0] if problem.errors else None
    param = _param(place["pointer"]) if place and place["pointer"] else None
    message = problem.detail if place is None else f"{param}: {place['detail']}" if param else place["detail"]
    if "item" in problem.extra:
        message = f"Text {problem.extra['item']} (from 0): {message}"
    code = problem.code
    if code == "invalid_input" and place is not None:
        code = place["code"] if place["code"] in CODES or place["code"] in OWN else "invalid_value"
    return OpenAIErrorAnswer(error=OpenAIError(message=message, type=_type(problem.status_code), param=param, code=CODES.get(code, code)))


def _type(status: int) -> str:
    return "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"


def _param(pointer: str) -> str:
    """`/messages/0/content` as OpenAI writes it: `messages[0].content`."""
    untagged = re.sub(r"/content/(?:text|list)(?=/|$)", "/content", pointer)  # branches of the union, which are not in the JSON
    return re.sub(r"/(\d+)(?=/|$)", r"[\1]", untagged).replace("/", ".").lstrip(".").replace("~1", "/").replace("~0", "~")


def openai_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's OpenAPI entry."""
    described = {**{status: WHY[status] for status in sorted(statuses)}, **ANY_ERROR}
    return {
        status: {"description": text, "model": OpenAIErrorAnswer, **({"headers": RETRY_AFTER} if status in (429, 503) else {})}
        for status, text in described.items()
    }
