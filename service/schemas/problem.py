"""Errors: RFC 9457 problem+json."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.common import Answer


class ProblemPlace(Answer):
    pointer: str = Field(description="JSON pointer into the request body.")
    detail: str
    code: str


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable; `detail` is for people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ProblemPlace] | None = None
    item: int | None = Field(None, description="Which item of a list failed while it was worked on; counted from 0.")
    error_id: str | None = Field(None, description="Of an unexpected error: find it in the server's log.")
