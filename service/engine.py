"""The model's two workers: one generates, one verifies, so that a verification never waits behind a generation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import structlog

from service.logging import describe_error
from service.settings import Settings
from service.worker import BatchWorker, Entry, OnStep
from watermark.codebook.keys import IssuerKey
from watermark.sampling.requests import GenerationRequest, GenerationResult
from watermark.statistics.verdict import Verdict

log = structlog.get_logger("countersign.engine")
Detail = Literal["public", "full"]
TICK = 0.1


class Model(Protocol):
    """What the engine needs of `watermark.pipeline.WatermarkedModel`. `generate` is one batch and calls `on_step` often."""

    @property
    def name(self) -> str: ...

    @property
    def lm(self) -> Any: ...

    def check(self, request: GenerationRequest) -> None: ...

    def generate(self, requests: Sequence[GenerationRequest], *, on_step: OnStep | None = None) -> list[GenerationResult]: ...

    def verify(
        self, texts: Sequence[str], keys: Sequence[IssuerKey], *, false_positive_rate: float = 1e-3, detail: Detail = "full"
    ) -> list[Verdict]: ...


@dataclass(frozen=True)
class VerifyGroup:
    """Texts share a call of the model only when they are tested for the same issuers in the same way."""

    keys: tuple[IssuerKey, ...]
    false_positive_rate: float
    detail: Detail


class Engine:
    """Owns the model while the service runs. `start`, then submit; `supervise` runs beside and keeps the workers alive."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self._restart_seconds = settings.restart_seconds
        self.generation: BatchWorker[GenerationRequest, GenerationResult] = BatchWorker(
            "generation", self._generate, batch_size=settings.batch_size, queue_size=settings.queue_size
        )
        self.verification: BatchWorker[str, Verdict] = BatchWorker(
            "verification",
            self._verify,
            batch_size=settings.batch_size,
            queue_size=settings.queue_size,
            batch_weight=settings.verify_batch_characters,
        )
        self.workers: tuple[BatchWorker, ...] = (self.generation, self.verification)

    @property
    def alive(self) -> bool:
        return all(worker.alive for worker in self.workers)

    @property
    def idle(self) -> bool:
        return all(worker.idle for worker in self.workers)

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    def submit_prompts(self, requests: Sequence[GenerationRequest], tag: str) -> list[Entry[GenerationRequest, GenerationResult]]:
        """Raises Unavailable when the queue has no room for all of them."""
        return self.generation.submit(requests, tag=tag)

    def submit_texts(self, texts: Sequence[str], group: VerifyGroup, tag: str) -> list[Entry[str, Verdict]]:
        """Raises Unavailable when the queue has no room for all of them."""
        return self.verification.submit(texts, group=group, weights=[len(text) for text in texts], tag=tag)

    async def supervise(self) -> None:
        """Start a worker again, a pause after it died. Runs until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            for worker in self.workers:
                if worker.died_at is not None and time.monotonic() - worker.died_at >= self._restart_seconds:
                    try:
                        worker.start()
                    except RuntimeError as error:  # no thread to be had: try again at the next tick
                        log.error("worker_not_restarted", worker=worker.name, **describe_error(error))
                        worker.died_at = time.monotonic()
                    else:
                        log.info("worker_restarted", worker=worker.name)

    async def drain(self, seconds: float) -> None:
        """Refuse new work, finish the old within `seconds`, cancel what is left, end the threads."""
        for worker in self.workers:
            worker.refuse()
        deadline = time.monotonic() + seconds
        while not self.idle and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for worker in self.workers:
            worker.abort()
        for worker in self.workers:
            await asyncio.to_thread(worker.stop, 2.0)

    def _generate(self, requests: list[GenerationRequest], group: object, on_step: OnStep) -> Sequence[GenerationResult]:
        return self.model.generate(requests, on_step=on_step)

    def _verify(self, texts: list[str], group: object, on_step: OnStep) -> Sequence[Verdict]:
        assert isinstance(group, VerifyGroup)
        return self.model.verify(texts, group.keys, false_positive_rate=group.false_positive_rate, detail=group.detail)


async def results_of(entries: Sequence[Entry[Any, Any]]) -> list[Any]:
    """The results in order. The first error ends the wait: ItemFailed, with its cause."""

    async def one(place: int, entry: Entry[Any, Any]) -> Any:
        try:
            return await asyncio.wrap_future(entry.future)
        except Exception as error:
            raise ItemFailed(place) from error

    return await asyncio.gather(*(one(place, entry) for place, entry in enumerate(entries)))


class ItemFailed(Exception):
    """One item of a request failed; the reason is the cause."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place
