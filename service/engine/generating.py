"""What the generation worker does: one running batch that requests join and leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from service.engine.messages import Cancel, Failed, Finished, Generate, RemoteError, Written
from service.observability.logs import describe_error
from watermark.codebook.keys import IssuerKey
from watermark.errors import CountersignError
from watermark.sampling.requests import GenerationRequest, SamplingSettings

if TYPE_CHECKING:
    from service.engine.worker import Inbox
    from watermark.generation import Generation, GenerationSession
    from watermark.pipeline import WatermarkedModel

log = structlog.get_logger("countersign.worker.generation")


@dataclass(eq=False)
class _Job:
    number: int
    request: GenerationRequest
    told: str = ""
    """Text that the service has been told of."""
    generation: Generation | None = None


class Generating:
    """One `turn` takes in what came and writes one token of every text.

    When a step fails, its requests are written again from the start, in halves of halves, until the one at fault is alone; what was
    told of a text is not told again. Nothing else is admitted until all halves have been begun.
    """

    def __init__(self, model: WatermarkedModel, inbox: Inbox, tell: Callable[[object], None]) -> None:
        self.model, self.inbox, self.tell = model, inbox, tell
        self._session: GenerationSession = model.session()
        self._waiting: list[_Job] = []
        self._running: list[_Job] = []
        self._suspects: list[list[_Job]] = []

    def warm_up(self) -> None:
        """Marked text, so that the reading of its self-check is warm too. The key is nobody's."""
        key = IssuerKey("warm-up", bytes(32))
        self.model.generate([GenerationRequest("A few words.", SamplingSettings(max_new_tokens=4, seed=0), key)])

    def turn(self) -> None:
        for message in self.inbox.waiting(wait=not (self._running or self._waiting or self._suspects)):
            if isinstance(message, Generate):
                self._waiting.append(_Job(message.number, message.request))
            elif isinstance(message, Cancel):
                self._cancel(message.number)
        if self._suspects and not self._running:
            self._admit(self._suspects.pop())
        elif not self._suspects and self._waiting:
            coming, self._waiting = self._waiting, []
            self._admit(coming)
        try:
            written = self._session.step()
        except Exception as error:
            self._isolate(error)
            return
        by_generation = {job.generation: job for job in self._running}
        for generation in written:
            self._tell(by_generation[generation], generation)

    def _admit(self, jobs: list[_Job]) -> None:
        try:
            generations = self._session.admit([job.request for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                self._fail(jobs[0], error)
            else:
                for job in jobs:  # only the one at fault is refused
                    self._admit([job])
            return
        for job, generation in zip(jobs, generations, strict=True):
            job.generation = generation
        self._running += jobs

    def _tell(self, job: _Job, generation: Generation) -> None:
        text = generation.stream.sent
        if not (text.startswith(job.told) or job.told.startswith(text)):
            # Written again after a failure, and rounding took another turn: the reader has the beginning of another text.
            self._session.cancel(generation)
            self._running.remove(job)
            self._fail(job, RuntimeError("a text that was begun could not be written again"))
            return
        if len(text) > len(job.told):
            self.tell(Written(job.number, text[len(job.told) :], len(generation.row.ids)))
            job.told = text
        if generation.result is not None:
            self._running.remove(job)
            self.tell(Finished(job.number, generation.result))

    def _isolate(self, error: Exception) -> None:
        jobs, self._running = self._running, []
        self._session = self.model.session()
        log.warning("batch_failed", size=len(jobs), **describe_error(error))
        if len(jobs) == 1:
            self._fail(jobs[0], error)
        else:
            half = len(jobs) // 2
            self._suspects += [part for part in (jobs[half:], jobs[:half]) if part]

    def _fail(self, job: _Job, error: Exception) -> None:
        self.tell(Failed(job.number, error if isinstance(error, CountersignError) else RemoteError(describe_error(error))))

    def _cancel(self, number: int) -> None:
        for job in self._running:
            if job.number == number and job.generation:
                self._session.cancel(job.generation)
        for jobs in (self._waiting, self._running, *self._suspects):
            jobs[:] = [job for job in jobs if job.number != number]
        self._suspects = [jobs for jobs in self._suspects if jobs]
