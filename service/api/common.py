"""What every route module needs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from service.runtime import Runtime

WHY = {
    400: "The body is not JSON.",
    401: "No API key, or one that is not valid.",
    403: "The API key has not the scope that is needed.",
    404: "There is no such thing; `code` says which.",
    409: "It does not go together with what is stored.",
    413: "The body is larger than this server takes.",
    415: "The body must be JSON.",
    422: "A value in the request cannot be used; `errors` names its place.",
    429: "Too many requests; `Retry-After` says when to come again.",
    503: "Not now; `Retry-After` says when.",
    504: "Not done in time.",
}
ANY_ERROR = {
    "4XX": "The request cannot be served as it is; `code` says why.",
    "5XX": "The fault is the server's; `error_id` is in its log.",
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds until it is worth trying again.", "schema": {"type": "integer", "minimum": 1}}}


def _runtime(request: Request) -> Runtime:
    return request.app.state.runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's OpenAPI entry: its problems."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    described = {**{status: WHY[status] for status in sorted(statuses)}, **ANY_ERROR}
    return {
        status: {"description": text, "content": content, **({"headers": RETRY_AFTER} if status in (429, 503) else {})}
        for status, text in described.items()
    }
