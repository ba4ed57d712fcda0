"""The contract between the API and whatever runs the model. `tests/service/engine/test_conformance.py` holds every engine to it.

* Requests are independent: a text is the same alone and in a batch, and one that fails does not take others along.
* `submit` does not wait for room: it queues all or refuses all with `Unavailable` (`queue_full`, `loading`, `shutting_down`).
* A ticket ends in exactly one way: a result, or an exception (InvalidInput; `Unavailable` when its worker died; Cancelled).
* `cancel` frees what the ticket holds, queued or running, soon and without waiting.
* Verification does not wait behind generation.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from watermark.codebook.keys import IssuerKey
from watermark.sampling.requests import GenerationRequest, GenerationResult
from watermark.statistics.verdict import Verdict

Detail = Literal["public", "full"]
PromptText = str | Sequence[Mapping[str, str]]
"""A text to continue, or a conversation: messages {role, content}."""
Role = Literal["encoding", "generation", "verification"]
Status = Literal["loading", "ready", "failed", "worker_down", "draining"]


class Unavailable(Exception):
    """The work was not done and may be asked for again after `retry_after` seconds. `code` is stable."""

    def __init__(self, code: str, detail: str, retry_after: int) -> None:
        super().__init__(code, detail, retry_after)  # all of it, so that it can be pickled
        self.code = code
        self.detail = detail
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True)
class ModelCard:
    """What the API must know of the model that the engine runs."""

    model: str
    checkpoint: str
    scheme: str
    """How texts are marked; another way of marking, or of deriving codewords, is another scheme."""
    context_size: int
    """Tokens that prompt and continuation may have together."""
    prefix: tuple[int, ...] = ()
    """What the tokenizer puts in front of a text (begin-of-text token)."""
    lead: tuple[int, ...] = ()
    """What stands in for an empty prompt; nothing where the model has no such token."""
    chat_template: str | None = field(default=None, repr=False)
    special_tokens: tuple[tuple[str, str], ...] = ()
    """Pairs such as ("bos_token", "<bos>"), for the chat template."""


@dataclass(frozen=True)
class VerificationRequest:
    """Texts that are tested for the same issuers in the same way."""

    texts: tuple[str, ...]
    keys: tuple[IssuerKey, ...]
    false_positive_rate: float
    detail: Detail


@dataclass(frozen=True)
class Piece:
    """Text written since the last piece."""

    text: str
    tokens: int
    """New tokens so far."""


@dataclass(eq=False)
class Ticket:
    """One generation, or one verification request, in the engine's hands. Times are `time.monotonic()` seconds."""

    tag: str
    """Request id, for log lines."""
    tokens: int
    """What it takes of the queue's budget: prompt and new tokens, or the tokens of its texts."""
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    first_token: float | None = None
    finished: float | None = None


@dataclass(frozen=True)
class Health:
    status: Status
    detail: str


@dataclass(frozen=True)
class Stats:
    """A moment's state, for readiness and metrics."""

    waiting_prompts: int = 0
    waiting_texts: int = 0
    queued_tokens: int = 0
    running_prompts: int = 0
    """Batch size of the generation that runs now."""
    restarts: int = 0
    """Workers started again since the start."""


class Engine(Protocol):
    @property
    def card(self) -> ModelCard | None:
        """None until the model is loaded."""
        ...

    async def run(self) -> None:
        """Load the model and keep its workers alive until cancelled. Raises CountersignError when it cannot be loaded at all."""
        ...

    async def encode(self, prompt: PromptText, max_new_tokens: int, *, tag: str = "") -> tuple[int, ...]:
        """Token ids, at once, whatever waits to be generated. A conversation needs a model with a chat template.

        Raises InvalidInput, PromptTooLong (with so many new tokens) and Unavailable.
        """
        ...

    async def submit(self, requests: Sequence[GenerationRequest], *, tag: str = "") -> list[Ticket]:
        """Prompts must be token ids. Raises Unavailable; queues all or none."""
        ...

    async def submit_verification(self, request: VerificationRequest, *, tag: str = "") -> Ticket: ...

    def stream(self, ticket: Ticket) -> AsyncIterator[Piece]:
        """Pieces of one generation as they are written; ends with the text. Raises as `result` does. Once per ticket."""
        ...

    async def result(self, ticket: Ticket) -> GenerationResult: ...

    async def verdicts(self, ticket: Ticket) -> list[Verdict]: ...

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Done ones are not touched."""
        ...

    def health(self) -> Health: ...

    def stats(self) -> Stats: ...

    async def drain(self, seconds: float) -> None:
        """Refuse new work, finish the old within `seconds`, cancel what is left."""
        ...
