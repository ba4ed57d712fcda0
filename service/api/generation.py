"""The core of every route that generates, native or OpenAI-compatible: an order that passed its checks, to texts with receipts.

    order = await drafts.order(runtime, …)              # limits, issuer, tokens: raises Problem
    generation = await Generation.submit(runtime, order, request)   # all queued, or Unavailable: still a proper HTTP status
    texts = await finish(request, generation.results())       # or: async for place, item in generation.events()

Streams go through `service.api.sse.event_stream`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from service.api.receipts import keep_receipt
from service.engine.protocol import ModelCard, Piece, Ticket
from service.errors import ClientGone, Problem, problem_of
from service.runtime import Runtime
from service.schemas.common import Timings
from watermark.sampling.requests import GenerationRequest, GenerationResult

T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """Texts to write. Made by `service.api.drafts`, which checks them against every limit."""

    requests: tuple[GenerationRequest, ...]
    """Prompts are token ids, and each has its own seed."""
    receipt: bool = True
    listed: bool = False
    """Whether prompts came as a list: errors then name the item."""


@dataclass(frozen=True)
class Generated:
    """A finished text."""

    id: str
    result: GenerationResult
    receipt_id: str | None


class Generation:
    """One order in the engine's hands. Take `results` or `events`, once; either gives back the places when it ends early."""

    def __init__(
        self, runtime: Runtime, model: ModelCard, order: Order, tickets: Sequence[Ticket], request_id: str, arrived: float
    ) -> None:
        self.id = request_id
        self.model = model
        self.tickets = tuple(tickets)
        self._runtime, self._order, self._arrived = runtime, order, arrived
        self._deadline = arrived + runtime.settings.deadline_seconds

    @classmethod
    async def submit(cls, runtime: Runtime, order: Order, request: Request) -> Generation:
        """Raises Unavailable: the queue is full, the model not loaded, the service shutting down."""
        model, request_id = runtime.require_model(), request.state.request_id
        tickets = await runtime.engine.submit(order.requests, tag=request_id)
        return cls(runtime, model, order, tickets, request_id, request.state.arrived)

    async def results(self) -> list[Generated]:
        """All texts in order. Raises Problem: the first error, or `deadline_exceeded`."""
        try:
            async with _deadline(self._deadline):
                return await gather_or_cancel([self._finished(place) for place in range(len(self.tickets))])
        finally:
            self.cancel()

    async def events(self) -> AsyncGenerator[tuple[int, Piece | Generated], None]:
        """Pieces of all texts as they are written, each with the place of its prompt, and each text when it is done.

        Raises as `results` does. Close it (`contextlib.aclosing`) when leaving early.
        """
        written: asyncio.Queue[tuple[int, Piece | Generated | Problem]] = asyncio.Queue()

        async def follow(place: int) -> None:
            try:
                async for piece in self._runtime.engine.stream(self.tickets[place]):
                    written.put_nowait((place, piece))
                written.put_nowait((place, await self._finished(place)))
            except Exception as error:
                written.put_nowait((place, self._problem(place, error)))

        followers = [asyncio.ensure_future(follow(place)) for place in range(len(self.tickets))]
        waiting = len(followers)
        try:
            while waiting:
                async with _deadline(self._deadline):
                    place, item = await written.get()
                if isinstance(item, Problem):
                    raise item
                waiting -= isinstance(item, Generated)
                yield place, item
        finally:
            for follower in followers:
                follower.cancel()
            self.cancel()

    def cancel(self) -> None:
        """Done ones are not touched by it."""
        self._runtime.engine.cancel(self.tickets)

    def timings(self) -> Timings:
        return timings(self.tickets, self._arrived)

    async def _finished(self, place: int) -> Generated:
        ticket, request = self.tickets[place], self._order.requests[place]
        try:
            result = await self._runtime.engine.result(ticket)
            self._runtime.metrics.generated(ticket, result)
            receipt = None
            if self._order.receipt and request.key is not None and result.marking.marked_tokens:
                receipt = await keep_receipt(self._runtime, self.model, result, request.key, self.id)
        except Exception as error:
            raise self._problem(place, error) from error
        return Generated(f"text-{secrets.token_hex(12)}", result, receipt)

    def _problem(self, place: int, error: Exception) -> Problem:
        problem = problem_of(error)
        if self._order.listed:
            problem.extra["item"] = place
        return problem


def timings(tickets: Sequence[Ticket], arrived: float) -> Timings:
    """Of a request that arrived at `arrived`, by the monotonic clock."""
    submitted = min(ticket.submitted for ticket in tickets)
    started = min(ticket.started or ticket.submitted for ticket in tickets)
    finished = max(ticket.finished or started for ticket in tickets)
    first = min((ticket.first_token for ticket in tickets if ticket.first_token is not None), default=None)
    return Timings(
        waited_seconds=round(max(0.0, started - submitted), 4),
        first_token_seconds=None if first is None else round(max(0.0, first - arrived), 4),
        worked_seconds=round(max(0.0, finished - started), 4),
    )


async def finish(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do `work` for a client that waits. Raises ClientGone, after cancelling it, when the client hangs up."""
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGone
        return doing.result()
    finally:
        gone.cancel()
        doing.cancel()
        await asyncio.wait({doing})  # it gives back its places before anything else happens
        if not doing.cancelled():
            doing.exception()  # has been raised, or is of no interest to somebody who has left; asyncio wants it asked for


async def disconnected(request: Request) -> None:
    """Returns when the client has hung up. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def gather_or_cancel(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """As asyncio.gather, but the first error ends the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def _deadline(at: float) -> AsyncGenerator[None, None]:
    """Raises Problem when the monotonic clock passes `at`."""
    try:
        async with asyncio.timeout(max(0.0, at - time.monotonic())):
            yield
    except TimeoutError:
        detail = "The request was not done in time. Ask for less, or try again when less is going on."
        raise Problem(504, "deadline_exceeded", detail) from None
