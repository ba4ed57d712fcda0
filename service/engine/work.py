"""What the engine holds of a ticket while it is queued or in work."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from service.engine.messages import Encode, Generate, VerifyText
from service.engine.protocol import Piece, Ticket
from watermark.codebook.keys import IssuerKey

Item = Encode | Generate | VerifyText


@dataclass(eq=False)
class Work:
    """One ticket: a prompt to encode, a generation, or a verification with one item a text."""

    ticket: Ticket
    items: deque[Item]
    """Not yet sent to the worker."""
    keys: tuple[IssuerKey, ...] = ()
    """What its texts are tested for."""
    results: dict[int, Any] = field(default_factory=dict)
    """By item number; complete when there are as many as items were."""
    numbers: list[int] = field(default_factory=list)
    outcome: asyncio.Future[list[Any]] = field(default_factory=asyncio.Future)
    pieces: asyncio.Queue[Piece | None] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.numbers = [item.number for item in self.items]
        # Whoever waits sees the error; where nobody does (the client left), asyncio must not complain.
        self.outcome.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())

    def finish(self, number: int, result: Any) -> None:
        self.results[number] = result
        if len(self.results) == len(self.numbers):
            self._end()
            if not self.outcome.done():
                self.outcome.set_result([self.results[number] for number in self.numbers])

    def fail(self, error: BaseException) -> None:
        self._end()
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def _end(self) -> None:
        self.ticket.finished = self.ticket.finished or time.monotonic()
        self.pieces.put_nowait(None)


class FairQueue:
    """Works that wait, item by item in turn: a request with many texts does not hold up one with a single text.

    With `overtaking` nor does one whose next item has no room yet; without, all wait for the first, which would otherwise wait for ever
    while smaller ones keep coming.
    """

    def __init__(self, overtaking: bool) -> None:
        self._overtaking = overtaking
        self._works: deque[Work] = deque()

    def __iter__(self) -> Iterator[Work]:
        return iter(self._works)

    @property
    def items(self) -> int:
        return sum(len(work.items) for work in self._works)

    @property
    def tokens(self) -> int:
        """What the waiting works take of the budget, those begun included."""
        return sum(work.ticket.tokens for work in self._works)

    def add(self, work: Work) -> None:
        self._works.append(work)

    def take(self, fits: Callable[[Item], bool]) -> tuple[Work, Item] | None:
        """The next item that fits, or None."""
        candidates = list(self._works) if self._overtaking else list(self._works)[:1]
        work = next((work for work in candidates if fits(work.items[0])), None)
        if work is None:
            return None
        self._works.remove(work)
        item = work.items.popleft()
        if work.items:
            self._works.append(work)
        return work, item

    def remove(self, work: Work) -> None:
        if work in self._works:
            self._works.remove(work)
        work.items.clear()
