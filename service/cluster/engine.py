"""The engine that the ingress has: it runs no model, and hands its work to the replicas of two deployments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from ray.serve.handle import DeploymentHandle

from service.cluster.calls import LOST, PATIENCE, Call, CallTicket, lost
from service.cluster.messages import Failed, Report
from service.engine.protocol import Health, ModelCard, Piece, PromptText, Stats, Ticket, Unavailable, VerificationRequest
from watermark.errors import CheckpointError
from watermark.sampling.requests import GenerationRequest, GenerationResult
from watermark.statistics.verdict import Verdict

log = structlog.get_logger("countersign.cluster")

TICK = 1.0
REPORT_SECONDS = 10.0
"""A deployment none of whose replicas reports within this is down."""


class ClusterEngine:
    """See `service.engine.protocol`. Work whose replica is lost is given to another, and repeated: texts follow from their seeds.

    The places of one `submit` are on one replica, and are freed together. `stats` counts what this engine has asked for: there may be
    other ingresses.
    """

    def __init__(self, generation: DeploymentHandle[Any], verification: DeploymentHandle[Any]) -> None:
        self._generation, self._verification = generation, verification
        self._reports: dict[str, Report | None] = {"generation": None, "verification": None}
        self._card: ModelCard | None = None
        self._refusing = False
        self._lost = 0
        self._calls: dict[str, set[Call]] = {"generation": set(), "verification": set()}

    # -- life

    @property
    def card(self) -> ModelCard | None:
        return self._card

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch("generation", self._generation))
            tasks.create_task(self._watch("verification", self._verification))
            while self._card is None:
                await asyncio.sleep(0.05)
                cards = [report.card for report in self._reports.values() if report]
                if len(cards) == len(self._reports):
                    if cards[0] != cards[1]:
                        raise CheckpointError("The replicas that generate and those that verify have different models or checkpoints.")
                    self._card = cards[0]
            log.info("ready", model=self._card.model, checkpoint=self._card.checkpoint)

    async def _watch(self, name: str, handle: DeploymentHandle[Any]) -> None:
        while True:
            asked = time.monotonic()
            response = handle.report.remote()
            try:
                async with asyncio.timeout(None if self._card is None else REPORT_SECONDS):
                    self._reports[name] = await response
            except (TimeoutError, *LOST) as error:
                log.warning("deployment_silent", deployment=name, error=type(error).__name__)
                response.cancel()
                self._reports[name] = None
            await asyncio.sleep(max(0.0, asked + TICK - time.monotonic()))

    async def drain(self, seconds: float) -> None:
        self._refusing = True
        deadline = time.monotonic() + seconds
        while any(self._unfinished("generation") + self._unfinished("verification")) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for call in [*self._unfinished("generation"), *self._unfinished("verification")]:
            call.end(_shutting_down())

    # -- work

    async def encode(self, prompt: PromptText, max_new_tokens: int, *, tag: str = "") -> tuple[int, ...]:
        self._admit()
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._generation.encode.remote(prompt, max_new_tokens, tag)
        except (TimeoutError, *LOST):
            raise lost("No replica is there to read the prompt.") from None
        if isinstance(answer, Failed):
            raise answer.error
        return answer

    async def submit(self, requests: Sequence[GenerationRequest], *, tag: str = "") -> list[Ticket]:
        self._admit()
        if not requests:
            return []
        tickets = [CallTicket(tag, len(request.prompt) + request.sampling.max_new_tokens) for request in requests]
        handle = self._generation.options(stream=True)
        await self._begin("generation", Call(lambda: handle.generate.remote(tuple(requests), tag), tickets, self._count_lost))
        return list(tickets)

    async def submit_verification(self, request: VerificationRequest, *, tag: str = "") -> Ticket:
        self._admit()
        ticket = CallTicket(tag, sum(map(len, request.texts)))
        handle = self._verification.options(stream=True)
        await self._begin("verification", Call(lambda: handle.verify.remote(request, tag), [ticket], self._count_lost))
        return ticket

    async def stream(self, ticket: Ticket) -> AsyncIterator[Piece]:
        mine = _mine(ticket)
        while piece := await mine.pieces.get():
            yield piece
        await asyncio.shield(mine.outcome)

    async def result(self, ticket: Ticket) -> GenerationResult:
        return await asyncio.shield(_mine(ticket).outcome)

    async def verdicts(self, ticket: Ticket) -> list[Verdict]:
        return await asyncio.shield(_mine(ticket).outcome)

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            _mine(ticket).cancel()

    # -- state

    def health(self) -> Health:
        if self._refusing:
            return Health("draining", "The service is shutting down.")
        if self._card is None:
            return Health("loading", "The replicas are loading the model.")
        if down := [name for name, report in self._reports.items() if report is None or report.health.status != "ready"]:
            return Health("worker_down", f"The {' and the '.join(down)} replicas do not answer, or are being restarted.")
        return Health("ready", "Requests are served.")

    def stats(self) -> Stats:
        prompts = [ticket for call in self._unfinished("generation") for ticket in call.tickets if not ticket.outcome.done()]
        waiting = [ticket for ticket in prompts if ticket.started is None]
        texts = [ticket for call in self._unfinished("verification") for ticket in call.tickets]
        return Stats(
            waiting_prompts=len(waiting),
            waiting_texts=len(texts),
            queued_tokens=sum(ticket.tokens for ticket in waiting),
            running_prompts=len(prompts) - len(waiting),
            restarts=self._lost,
        )

    # -- inside

    def _admit(self) -> None:
        if self._refusing:
            raise _shutting_down()
        if self._card is None:
            raise Unavailable("loading", "The model is still loading. Try again in a few seconds.", 5)

    async def _begin(self, name: str, call: Call) -> None:
        self._calls[name].add(call)
        try:
            await call.begin()
        finally:
            self._calls[name] = {other for other in self._calls[name] if not other.done}

    def _unfinished(self, name: str) -> list[Call]:
        return [call for call in self._calls[name] if not call.done]

    def _count_lost(self) -> None:
        self._lost += 1


def _mine(ticket: Ticket) -> CallTicket:
    assert isinstance(ticket, CallTicket), "a ticket of another engine"
    return ticket


def _shutting_down() -> Unavailable:
    return Unavailable("shutting_down", "The service is shutting down. Try again in a moment.", 5)
