"""The batching engine: one process encodes prompts, one generates and one verifies, forked from one that has loaded the model."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from service.engine.lane import KEY_SETS, SHORT_LIFE, Lane
from service.engine.messages import Encode, Generate, VerifyText, Worker
from service.engine.nursery import Load, Nursery, NurseryLost
from service.engine.protocol import Health, ModelCard, Piece, PromptText, Role, Stats, Ticket, Unavailable, VerificationRequest
from service.engine.work import Item, Work
from service.observability.logs import describe_error
from service.settings import Settings
from watermark.codebook.keys import IssuerKey
from watermark.sampling.requests import GenerationRequest, GenerationResult
from watermark.statistics.verdict import Verdict

log = structlog.get_logger("countersign.engine")

TICK = 0.5
ROLES: tuple[Role, ...] = ("encoding", "generation", "verification")


@dataclass(eq=False)
class _Ticket(Ticket):
    lane: Lane = field(kw_only=True)
    work: Work = field(init=False)


class BatchingEngine:
    """See `service.engine.protocol`. Belongs to the event loop in which `run` is awaited."""

    def __init__(self, settings: Settings, load: Load, nursery: Nursery | None = None, *, roles: Sequence[Role] = ROLES) -> None:
        """`nursery` may be shared by several engines; without one the engine has its own. It is asked for nothing beyond its `roles`."""
        self._settings, self._load = settings, load
        self._nursery, self._shared = nursery, nursery is not None
        self._nursery_lock = asyncio.Lock()
        self._card: ModelCard | None = None
        self._refusing = False
        self._numbers = itertools.count(1)
        self._key_sets: OrderedDict[tuple[IssuerKey, ...], int] = OrderedDict()
        self._encoding = self._lane("encoding", lambda _item, _running: True)
        self._generation = self._lane("generation", self._room_to_generate)
        self._verification = self._lane("verification", self._room_to_verify)
        self._lanes = [lane for lane in (self._encoding, self._generation, self._verification) if lane.name in roles]

    # -- life

    @property
    def card(self) -> ModelCard | None:
        return self._card

    async def run(self) -> None:
        try:
            card = await self._with_nursery(lambda nursery: nursery.load(self._load))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch())
                tasks.create_task(self._watch_nursery())
                for lane in self._lanes:
                    tasks.create_task(lane.keep())
                for lane in self._lanes:
                    await lane.up.wait()
                self._card = card
                log.info("ready", model=card.model, checkpoint=card.checkpoint)
        except* Exception as group:
            raise group.exceptions[0] from None
        finally:
            if self._nursery and not self._shared:
                self._nursery.close()

    async def _watch(self) -> None:
        """Kill what is stuck."""
        while True:
            await asyncio.sleep(TICK)
            for lane in self._lanes:
                if lane.stalled(self._settings.stall_seconds):
                    log.error("worker_stalled", worker=lane.name, seconds=self._settings.stall_seconds)
                    lane.kill()

    async def _watch_nursery(self) -> None:
        """Keep one ready for the next fork. The workers do well without it, so a failure here is not the end."""
        while True:
            await asyncio.sleep(TICK)
            if self._nursery and not self._nursery.alive:
                log.error("nursery_died")
                try:
                    await self._with_nursery(lambda nursery: nursery.load(self._load))
                except Exception as error:
                    log.error("nursery_not_restarted", **describe_error(error))
                    await asyncio.sleep(SHORT_LIFE)

    async def _with_nursery(self, ask: Any) -> Any:
        """The answer of a nursery; a new one is started when it was lost."""
        while True:
            async with self._nursery_lock:
                if self._nursery is None or not self._nursery.alive:
                    self._nursery, self._shared = await asyncio.to_thread(Nursery), False
                nursery = self._nursery
            try:
                return await asyncio.to_thread(ask, nursery)
            except NurseryLost:
                log.error("nursery_lost")
                await asyncio.sleep(TICK)

    def _lane(self, role: Role, room: Any) -> Lane:
        s = self._settings
        worker = Worker(role, s.device, s.threads, s.verify_batch_characters, s.log_level, s.log_format)

        def begin(nursery: Nursery) -> tuple[socket.socket, int]:
            nursery.load(self._load)  # a nursery that was started again has nothing loaded
            return nursery.fork(self._load, worker)

        return Lane(role, room, lambda: self._with_nursery(begin), restart_seconds=s.restart_seconds, overtaking=role == "verification")

    async def drain(self, seconds: float) -> None:
        self._refusing = True
        deadline = time.monotonic() + seconds
        while not all(lane.idle for lane in self._lanes) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for lane in self._lanes:
            lane.cancel_all(_shutting_down())

    # -- work

    async def encode(self, prompt: PromptText, max_new_tokens: int, *, tag: str = "") -> tuple[int, ...]:
        self._admit(self._encoding, 1)
        ticket = _Ticket(tag, 1, lane=self._encoding)
        _begin(ticket, [Encode(next(self._numbers), prompt, max_new_tokens)])
        return (await _work(ticket).outcome)[0]

    async def submit(self, requests: Sequence[GenerationRequest], *, tag: str = "") -> list[Ticket]:
        s, queue = self._settings, self._generation.queue
        tickets = [_Ticket(tag, len(request.prompt) + request.sampling.max_new_tokens, lane=self._generation) for request in requests]
        tokens = sum(ticket.tokens for ticket in tickets)
        self._admit(self._generation, len(tickets))
        if queue.items and queue.tokens + tokens > s.queue_tokens:
            raise self._full(self._generation, f"{s.queue_tokens:,} tokens")
        for ticket, request in zip(tickets, requests, strict=True):
            _begin(ticket, [Generate(next(self._numbers), request)])
        return list(tickets)

    async def submit_verification(self, request: VerificationRequest, *, tag: str = "") -> Ticket:
        self._admit(self._verification, len(request.texts))
        keys = self._key_number(request.keys)
        ticket = _Ticket(tag, sum(map(len, request.texts)), lane=self._verification)
        texts = [VerifyText(next(self._numbers), text, keys, request.false_positive_rate, request.detail) for text in request.texts]
        _begin(ticket, texts, request.keys)
        return ticket

    async def stream(self, ticket: Ticket) -> AsyncIterator[Piece]:
        work = _work(ticket)
        while piece := await work.pieces.get():
            yield piece
        await asyncio.shield(work.outcome)

    async def result(self, ticket: Ticket) -> GenerationResult:
        return (await asyncio.shield(_work(ticket).outcome))[0]

    async def verdicts(self, ticket: Ticket) -> list[Verdict]:
        return await asyncio.shield(_work(ticket).outcome)

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            assert isinstance(ticket, _Ticket)
            if not ticket.work.outcome.done():
                ticket.lane.cancel(ticket.work)

    # -- state

    def health(self) -> Health:
        if self._refusing:
            return Health("draining", "The service is shutting down.")
        if self._card is None:
            return Health("loading", "The model is loading. The very first start converts it, which takes a few minutes.")
        if down := [lane.name for lane in self._lanes if not lane.up.is_set()]:
            return Health("worker_down", f"The {' and the '.join(down)} worker stopped and is being restarted.")
        return Health("ready", "Requests are served.")

    def stats(self) -> Stats:
        generation, verification = self._generation, self._verification
        return Stats(
            waiting_prompts=generation.queue.items,
            waiting_texts=verification.queue.items,
            queued_tokens=generation.queue.tokens,
            running_prompts=generation.running,
            restarts=sum(lane.restarts for lane in self._lanes),
        )

    def processes(self) -> dict[str, int | None]:
        """Process ids by role, for whoever watches memory or tests what a kill does."""
        return {**{lane.name: lane.pid for lane in self._lanes}, "nursery": self._nursery.pid if self._nursery else None}

    # -- inside

    def _admit(self, lane: Lane, count: int) -> None:
        assert lane in self._lanes, f"this engine does no {lane.name}"
        if self._refusing:
            raise _shutting_down()
        if self._card is None:
            raise Unavailable("loading", "The model is still loading. Try again in a few seconds.", 5)
        if lane.queue.items + count > self._settings.queue_size:
            raise self._full(lane, f"{self._settings.queue_size} places")

    def _full(self, lane: Lane, size: str) -> Unavailable:
        return Unavailable("queue_full", f"The {lane.name} queue is full ({size}). Try again later.", lane.retry_after())

    def _key_number(self, keys: tuple[IssuerKey, ...]) -> int:
        number = self._key_sets.pop(keys, None) or next(self._numbers)
        self._key_sets[keys] = number
        if len(self._key_sets) > KEY_SETS:
            self._key_sets.popitem(last=False)
        return number

    def _room_to_generate(self, item: Item, running: list[Item]) -> bool:
        longest = max(_tokens(each) for each in (item, *running))
        return not running or (len(running) < self._settings.batch_size and longest * (len(running) + 1) <= self._settings.batch_tokens)

    def _room_to_verify(self, item: Item, running: list[Item]) -> bool:
        """One batch at a time: what the worker has cannot be overtaken. Beside it one long text, in whose pauses it reads the batch."""
        most = self._settings.verify_batch_characters
        short = [_characters(each) for each in running if _characters(each) <= most]
        if _characters(item) > most:
            return len(running) == len(short)
        return not short or sum(short) + _characters(item) <= most


def _begin(ticket: _Ticket, items: Sequence[Item], keys: tuple[IssuerKey, ...] = ()) -> None:
    ticket.work = Work(ticket, deque(items), keys)
    ticket.lane.add(ticket.work)


def _work(ticket: Ticket) -> Work:
    assert isinstance(ticket, _Ticket), "a ticket of another engine"
    return ticket.work


def _tokens(item: Item) -> int:
    assert isinstance(item, Generate)
    return len(item.request.prompt) + item.request.sampling.max_new_tokens


def _characters(item: Item) -> int:
    assert isinstance(item, VerifyText)
    return len(item.text)


def _shutting_down() -> Unavailable:
    return Unavailable("shutting_down", "The service is shutting down. Try again in a moment.", 5)
