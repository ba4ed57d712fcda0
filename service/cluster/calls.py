"""A piece of work in the hands of a deployment, and asked for again when the replica that had it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from service.cluster.messages import Accepted, Done, Failed, News, Refused
from service.engine.protocol import Piece, Ticket, Unavailable
from watermark.errors import Cancelled

log = structlog.get_logger("countersign.cluster")

ATTEMPTS = 4
"""Replicas that may be lost over one piece of work before it is given up: it could be the reason."""
PATIENCE = 20.0
"""Seconds in which work must have been accepted, or it is refused: no replica is there."""
LOST = (RayError, RayServeException)


@dataclass(eq=False)
class CallTicket(Ticket):
    outcome: asyncio.Future[Any] = field(default_factory=asyncio.Future)
    pieces: asyncio.Queue[Piece | None] = field(default_factory=asyncio.Queue)
    told: str = ""
    """Text that whoever waits has been given."""
    again: str = ""
    """Text that the replica has written: less than `told` while a lost one's work is repeated."""
    call: Call = field(init=False)

    def __post_init__(self) -> None:
        # Whoever waits sees the error; where nobody does (the client left), asyncio must not complain.
        self.outcome.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())

    def take(self, news: News) -> None:
        if self.outcome.done():
            return
        if isinstance(news, Piece):
            self.started = self.started or time.monotonic()
            self.first_token = self.first_token or time.monotonic()
            self.again += news.text
            if not (self.again.startswith(self.told) or self.told.startswith(self.again)):
                self.fail(lost("The replica that wrote this text is gone, and another could not write the same beginning again."))
            elif len(self.again) > len(self.told):
                self.pieces.put_nowait(Piece(self.again[len(self.told) :], news.tokens))
                self.told = self.again
        elif isinstance(news, Failed):
            self.fail(news.error)
        else:
            self._finish(news)

    def cancel(self) -> None:
        """Done ones are not touched."""
        self.fail(Cancelled("Nobody waits for this any more."))
        if self.call.done:
            self.call.end()

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self._end(time.monotonic())
            self.outcome.set_exception(error)

    def _finish(self, done: Done) -> None:
        """Times are counted back from now: the replica's clock is another one."""
        now, times = time.monotonic(), done.times
        begun = max(self.submitted, now - times.finished)
        self.started = begun + times.started
        self.first_token = self.first_token or (None if times.first_token is None else begun + times.first_token)
        self._end(now)
        self.outcome.set_result(done.result)

    def _end(self, now: float) -> None:
        self.finished = now
        self.pieces.put_nowait(None)


class Call:
    """`begin` asks a replica, waits until it has accepted, and leaves the rest to the tickets. What is asked must be repeatable."""

    def __init__(self, ask: Callable[[], Any], tickets: Sequence[CallTicket], on_lost: Callable[[], None]) -> None:
        self.tickets = tuple(tickets)
        self._ask, self._on_lost = ask, on_lost
        self._accepted: asyncio.Future[None] = asyncio.Future()
        self._task: asyncio.Task[None] | None = None
        for ticket in tickets:
            ticket.call = self

    @property
    def done(self) -> bool:
        return all(ticket.outcome.done() for ticket in self.tickets)

    async def begin(self) -> None:
        """Raises Unavailable."""
        self._task = asyncio.create_task(self._follow())
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self._accepted)
        except TimeoutError:
            self.end(error := lost("No replica is there to do this."))
            raise error from None
        except BaseException as error:
            self.end(error)
            raise

    def end(self, error: BaseException | None = None) -> None:
        """Give it up: who waits for a ticket gets `error`, and the replica has its places back."""
        for ticket in self.tickets:
            ticket.fail(error or Cancelled("Nobody waits for this any more."))
        if self._task:
            self._task.cancel()

    async def _follow(self) -> None:
        try:
            attempts = 0
            while not self.done:
                try:
                    await self._once()
                except RayTaskError:
                    raise  # not lost: its code failed, and would again
                except LOST as error:
                    attempts += 1
                    self._on_lost()
                    log.warning("replica_lost", tag=self.tickets[0].tag, attempt=attempts, error=type(error).__name__)
                    if attempts == ATTEMPTS:
                        raise lost("The replicas that did this stopped.") from None
        except Exception as error:
            self._refuse(error)
            for ticket in self.tickets:
                ticket.fail(error)

    async def _once(self) -> None:
        """One replica's stream to its end. Raises one of LOST, or whatever it refuses with."""
        for ticket in self.tickets:
            ticket.again = ""
        stream = self._ask()
        try:
            async for told in stream:
                if isinstance(told, Accepted):
                    if not self._accepted.done():
                        self._accepted.set_result(None)
                elif isinstance(told, Refused):
                    if not self._accepted.done():
                        raise told.error
                    await asyncio.sleep(told.error.retry_after)  # it has been promised; the deadline of who waits ends this
                else:
                    for place, news in told:
                        self.tickets[place].take(news)
        except BaseException:  # it may still be running there
            with contextlib.suppress(*LOST):
                stream.cancel()
            raise

    def _refuse(self, error: BaseException) -> None:
        if not self._accepted.done():
            self._accepted.set_exception(error)
            self._accepted.exception()  # whoever waits sees it; nobody may


def lost(detail: str) -> Unavailable:
    return Unavailable("worker_died", f"{detail} Try again in a few seconds.", 5)
