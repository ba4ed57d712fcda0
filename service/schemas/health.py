"""Probes: is the process up, and are requests served."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.schemas.common import Answer


class Live(Answer):
    status: Literal["alive"]


class Readiness(Answer):
    """Whether requests are served now, and by what."""

    status: Literal["ready", "loading", "failed", "worker_down", "storage_down", "draining"]
    detail: str
    model: str
    checkpoint: str | None = Field(description="Null until it is loaded.")
    waiting_prompts: int
    waiting_texts: int
    max_new_tokens: int
    max_prompt_characters: int
    max_text_characters: int
    public_text_characters: int | None = Field(
        description="Longest text that may be verified without an API key; null where that is not offered."
    )
    authentication: bool = Field(description="Whether an API key is needed for more than the public verification.")
