"""A fake engine for tests of the plumbing around it: no model, no process. It keeps the contract of `service.engine.protocol`.

Its "texts" are letters drawn by the request, and it "verifies" by remembering what it wrote: fast, repeatable, and nothing else.
A prompt with "poison" in it fails; `hold` makes generations wait; `die` kills its worker; `loading` and `failure` are its start.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer

from service.engine.prompts import PromptEncoder
from service.engine.protocol import Health, ModelCard, Piece, PromptText, Stats, Ticket, Unavailable, VerificationRequest
from tests.fakes import fake_tokenizer
from watermark.errors import Cancelled
from watermark.sampling.requests import GenerationRequest, GenerationResult, Marking
from watermark.statistics.verdict import Segment, TokenEvidence, Verdict, hexadecimal

LETTERS = "abcdefghij klmnopqrstuvwxyz "
QUEUE = 64


def fake_card(**changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "model": "fake-model",
        "checkpoint": "fake-checkpoint",
        "scheme": "countersign/fake/1",
        "context_size": 512,
        "prefix": (0,),
        "lead": (0,),
        "special_tokens": (("bos_token", "<bos>"), ("eos_token", "<eos>")),
    }
    return ModelCard(**{**values, **changes})


class FakeEngine:
    def __init__(
        self,
        card: ModelCard | None = None,
        tokenizer: Tokenizer | None = None,
        queue_size: int = QUEUE,
        failure: Exception | None = None,
        batch_size: int = QUEUE,
    ) -> None:
        self._card = card or fake_card()
        self._encoder = PromptEncoder(self._card, tokenizer or fake_tokenizer().backend_tokenizer)
        self._ready = False
        self._dead = False
        self._refusing = False
        self.queue_size = queue_size
        self._restarts = 0
        self._places = asyncio.Semaphore(batch_size)
        self._tasks: dict[Ticket, asyncio.Task[Any]] = {}
        self._ended: dict[Ticket, str] = {}
        """Why those that were cancelled were."""
        self._pieces: dict[Ticket, asyncio.Queue[Piece | None]] = {}
        self._written: dict[str, GenerationRequest] = {}
        self.hold = asyncio.Event()
        """Cleared, generations wait after `hold_after` tokens."""
        self.hold.set()
        self.hold_after = 0
        self.loading = asyncio.Event()
        """Cleared, the model goes on loading."""
        self.loading.set()
        self.restart_seconds = 0.05
        self.failure = failure
        """How loading ends, if not well."""
        self.submitted: list[GenerationRequest] = []
        self.verified: list[VerificationRequest] = []

    # -- what tests do to it

    async def die(self) -> None:
        """The worker ends with all it had in hand, and is started again a moment later."""
        self._dead = True
        self._end(self._tasks, "worker_died")
        await asyncio.sleep(self.restart_seconds)
        self._dead, self._restarts = False, self._restarts + 1

    # -- the contract

    @property
    def card(self) -> ModelCard | None:
        return self._card if self._ready else None

    async def run(self) -> None:
        await self.loading.wait()
        if self.failure:
            raise self.failure
        self._ready = True
        await asyncio.Event().wait()

    async def encode(self, prompt: PromptText, max_new_tokens: int, *, tag: str = "") -> tuple[int, ...]:
        self._admit(0, 0)
        return self._encoder.encode(prompt, max_new_tokens)

    async def submit(self, requests: Sequence[GenerationRequest], *, tag: str = "") -> list[Ticket]:
        self._admit(len(requests), sum(ticket in self._pieces and not task.done() for ticket, task in self._tasks.items()))
        self.submitted += requests
        tickets = [Ticket(tag, len(request.prompt) + request.sampling.max_new_tokens) for request in requests]
        for ticket, request in zip(tickets, requests, strict=True):
            assert not isinstance(request.prompt, str), "prompts are submitted as token ids"
            self._pieces[ticket] = asyncio.Queue()
            self._start(ticket, self._generate(ticket, request))
        return tickets

    async def submit_verification(self, request: VerificationRequest, *, tag: str = "") -> Ticket:
        self._admit(len(request.texts), sum(ticket not in self._pieces and not task.done() for ticket, task in self._tasks.items()))
        self.verified.append(request)
        ticket = Ticket(tag, sum(map(len, request.texts)))
        self._start(ticket, self._verify(ticket, request))
        return ticket

    async def stream(self, ticket: Ticket) -> AsyncIterator[Piece]:
        while piece := await self._pieces[ticket].get():
            yield piece
        await self.result(ticket)

    async def result(self, ticket: Ticket) -> GenerationResult:
        return await self._outcome(ticket)

    async def verdicts(self, ticket: Ticket) -> list[Verdict]:
        return await self._outcome(ticket)

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        self._end(tickets, "cancelled")

    def health(self) -> Health:
        if self._refusing:
            return Health("draining", "The service is shutting down.")
        if not self._ready:
            return Health("loading", "The model is loading.")
        return Health("worker_down", "The generation worker is being restarted.") if self._dead else Health("ready", "Requests are served.")

    def stats(self) -> Stats:
        prompts = [ticket for ticket, task in self._tasks.items() if ticket in self._pieces and not task.done()]
        waiting = [ticket for ticket in prompts if ticket.started is None]
        return Stats(
            waiting_prompts=len(waiting),
            queued_tokens=sum(ticket.tokens for ticket in waiting),
            running_prompts=len(prompts) - len(waiting),
            restarts=self._restarts,
        )

    async def drain(self, seconds: float) -> None:
        self._refusing = True
        pending = [task for task in self._tasks.values() if not task.done()]
        if pending:
            await asyncio.wait(pending, timeout=seconds)
        self._end(self._tasks, "shutting_down")

    # -- inside

    def _admit(self, count: int, there: int) -> None:
        if self._refusing:
            raise Unavailable("shutting_down", "The service is shutting down. Try again in a moment.", 5)
        if not self._ready:
            raise Unavailable("loading", "The model is still loading. Try again in a few seconds.", 5)
        if there + count > self.queue_size:
            raise Unavailable("queue_full", f"The queue is full ({self.queue_size} places). Try again later.", 1)

    def _start(self, ticket: Ticket, work: Any) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._finish(ticket))
        self._tasks[ticket] = task

    def _finish(self, ticket: Ticket) -> None:
        ticket.finished = time.monotonic()
        if ticket in self._pieces:
            self._pieces[ticket].put_nowait(None)

    async def _outcome(self, ticket: Ticket) -> Any:
        try:
            return await asyncio.shield(self._tasks[ticket])
        except asyncio.CancelledError:
            if not self._tasks[ticket].cancelled():  # it is the waiting that was cancelled
                raise
        reason = self._ended[ticket]
        if reason == "cancelled":
            raise Cancelled("Nobody waits for this any more.")
        raise Unavailable(reason, "The generation worker stopped while it did this and is restarted.", 2)

    def _end(self, tickets: Iterable[Ticket], reason: str) -> None:
        for ticket in tickets:
            if not self._tasks[ticket].done():
                self._ended[ticket] = reason
                self._tasks[ticket].cancel()

    async def _generate(self, ticket: Ticket, request: GenerationRequest) -> GenerationResult:
        async with self._places:
            if not self.hold_after:
                await self.hold.wait()
            ticket.started = time.monotonic()
            return await self._write(ticket, request)

    async def _write(self, ticket: Ticket, request: GenerationRequest) -> GenerationResult:
        issuer = request.key.name if request.key and request.strength > 0 else None
        decoded = fake_tokenizer().decode([int(i) for i in request.prompt], skip_special_tokens=True)
        if "poison" in decoded:
            raise ValueError(f"cannot digest {decoded!r}")
        identity = f"{decoded}|{request.sampling.seed}|{issuer}|{request.payload}"
        draw = random.Random(hashlib.sha256(identity.encode()).digest())
        text = ""
        reason = "length"
        for count in range(1, request.sampling.max_new_tokens + 1):
            letter = draw.choice(LETTERS)
            await (self.hold.wait() if count == self.hold_after + 1 else asyncio.sleep(0.05 if "slow" in decoded else 0))
            ticket.first_token = ticket.first_token or time.monotonic()
            if any((text + letter).endswith(stop) for stop in request.sampling.stop):
                reason = "stop"
                break
            text += letter
            self._pieces[ticket].put_nowait(Piece(letter, count))
        self._written[text] = request
        tokens = len(text)
        marked = issuer is not None and tokens >= 20
        bits = request.key.payload_bits if request.key else 0
        payload = hexadecimal(request.payload, bits) if issuer and bits else None
        why = None if marked else ("Too short." if issuer else "Marking was not asked for.")
        marking = Marking(marked, issuer, payload, tokens, tokens if issuer else 0, 1e-9 if marked else 0.5 if issuer else None, why)
        return GenerationResult(text, tuple(range(tokens)), len(request.prompt), reason, request.sampling.seed or 0, marking)

    async def _verify(self, ticket: Ticket, request: VerificationRequest) -> list[Verdict]:
        ticket.started = time.monotonic()
        await asyncio.sleep(0)
        if any("poison" in text for text in request.texts):
            raise ValueError("cannot digest that")
        return [self._verdict(text, request) for text in request.texts]

    def _verdict(self, text: str, request: VerificationRequest) -> Verdict:
        made = self._written.get(text)
        key = made.key if made and len(text) >= 20 and made.key in request.keys and made.strength > 0 else None
        full = request.detail == "full"
        payload = hexadecimal(made.payload, key.payload_bits) if made and key and key.payload_bits else None
        p_value = 1e-9 if key else 0.5
        segments = (Segment(0, len(text), len(text), key.name, key.version, payload, None, p_value),) if key and full else ()
        evidence = tuple(TokenEvidence(i, i + 1, 0.5) for i in range(len(text))) if key and full else None
        return Verdict(
            verdict="marked" if key else "not_detected" if len(text) >= 20 else "insufficient_text",
            issuer=key.name if key else None,
            key_version=key.version if key else None,
            payload=payload,
            payload_confidence=None,
            payload_bits=None,
            p_value=p_value,
            exact_p_value=p_value,
            false_positive_rate=request.false_positive_rate,
            tokens=len(text),
            candidates=16 * len(request.keys),
            windows=0,
            expected_detection=None,
            explanation="The fake engine remembers what it wrote.",
            segments=segments,
            evidence=evidence,
        )
