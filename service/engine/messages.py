"""What the service and its workers tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from service.engine.protocol import Detail, PromptText, Role
from watermark.codebook.keys import IssuerKey
from watermark.errors import CountersignError
from watermark.sampling.requests import GenerationRequest, GenerationResult
from watermark.statistics.verdict import Verdict

# ---- to a worker


class Generate(NamedTuple):
    number: int
    request: GenerationRequest


class Encode(NamedTuple):
    number: int
    prompt: PromptText
    max_new_tokens: int


class Keys(NamedTuple):
    """Sent once; texts refer to them by number, since ten thousand keys take longer to send than a text to read."""

    number: int
    keys: tuple[IssuerKey, ...]
    forget: tuple[int, ...]
    """Sets that no text refers to any more."""


class VerifyText(NamedTuple):
    number: int
    text: str
    keys: int
    false_positive_rate: float
    detail: Detail


class Cancel(NamedTuple):
    number: int


# ---- from a worker


class Ready(NamedTuple):
    """It has warmed up."""


class Alive(NamedTuple):
    """Sent at every step, so that silence means a stall."""


class Written(NamedTuple):
    """New text of one generation. `tokens` so far."""

    number: int
    text: str
    tokens: int


class Finished(NamedTuple):
    number: int
    result: GenerationResult | Verdict | tuple[int, ...]


class Failed(NamedTuple):
    number: int
    error: CountersignError | RemoteError


class RemoteError(Exception):
    """An unexpected error in a worker, told without its message: that may quote what a user wrote.

    `description` has the fields of `service.observability.logs.describe_error`.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__(description)
        self.description = description


# ---- to and from the nursery


@dataclass(frozen=True)
class Worker:
    """What kind of worker to fork. The socket to talk to it comes along."""

    role: Role
    device: str
    threads: int | None
    batch_characters: int
    log_level: str
    log_format: str


class LoadFailed(NamedTuple):
    """A model that could not be loaded, or a worker that cannot go on."""

    error: CountersignError | RemoteError
