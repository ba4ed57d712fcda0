"""Engines under test, and short ways to ask things of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from service.engine.engine import BatchingEngine
from service.engine.nursery import Load, Nursery
from service.engine.prompts import PromptEncoder
from service.engine.protocol import Engine, Ticket, VerificationRequest
from service.settings import build_settings
from tests.fakes import fake_tokenizer
from tests.service.engine.fake_models import faulty
from tests.service.engine.small import SMALL
from tests.service.fake_engine import FakeEngine
from watermark.codebook.keys import IssuerKey
from watermark.sampling.requests import GenerationRequest, SamplingSettings

ACME = IssuerKey("acme", b"a" * 32)
NEWS = IssuerKey("news", b"n" * 32, payload_bits=8)
QUEUE: int = SMALL["queue_size"]


class Asked:
    """An engine and its tokenizer."""

    def __init__(self, engine: Engine) -> None:
        assert engine.card is not None
        self.engine = engine
        self.encoder = PromptEncoder(engine.card, fake_tokenizer().backend_tokenizer)

    def request(
        self, prompt: str = "Hello", seed: int = 1, tokens: int = 40, key: IssuerKey | None = ACME, **more: Any
    ) -> GenerationRequest:
        sampling = SamplingSettings(max_new_tokens=tokens, min_new_tokens=tokens, seed=seed, stop=more.pop("stop", ()))
        return GenerationRequest(self.encoder.encode(prompt, tokens), sampling, key, **more)

    async def submit(self, *requests: GenerationRequest) -> list[Ticket]:
        return await self.engine.submit(list(requests), tag="test")

    async def texts(self, *requests: GenerationRequest) -> list[str]:
        return [(await self.engine.result(ticket)).text for ticket in await self.submit(*requests)]

    async def verify(self, *texts: str, keys: tuple[IssuerKey, ...] = (ACME,)) -> Ticket:
        return await self.engine.submit_verification(VerificationRequest(texts, keys, 1e-3, "full"), tag="test")


@contextlib.asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Asked]:
    life = asyncio.ensure_future(engine.run())
    try:
        await until(lambda: life.done() or engine.health().status == "ready", "the engine to be ready", 60)
        if life.done():
            life.result()
        yield Asked(engine)
    finally:
        life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await life


async def until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.01)


def batching(nursery: Nursery, load: Load = faulty, **changes: Any) -> BatchingEngine:
    return BatchingEngine(build_settings(**{**SMALL, **changes}), load, nursery)


def make(kind: str, nursery: Nursery) -> Engine:
    return FakeEngine(queue_size=QUEUE + SMALL["batch_size"], batch_size=SMALL["batch_size"]) if kind == "fake" else batching(nursery)


async def kill_generation(engine: Engine) -> None:
    if isinstance(engine, FakeEngine):
        await engine.die()
    else:
        assert isinstance(engine, BatchingEngine)
        kill(engine, "generation")


def kill(engine: BatchingEngine, role: str) -> None:
    pid = engine.processes()[role]
    assert pid
    os.kill(pid, signal.SIGKILL)
