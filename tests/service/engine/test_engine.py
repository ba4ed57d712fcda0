"""What only an engine with real processes can get wrong: deaths, stalls, loading, bounds, secrets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from service.engine.messages import RemoteError
from service.engine.nursery import Nursery
from service.engine.protocol import Unavailable
from tests.service.engine.fake_models import LoadedOnce, broken, sluggish, unloadable
from tests.service.engine.harness import ACME, Asked, batching, kill, running, until
from watermark.codebook.keys import IssuerKey
from watermark.errors import BaseModelError, Cancelled, InvalidInput
from watermark.sampling.requests import GenerationRequest, SamplingSettings

LONG = "A long text that is read in many pieces, one after the other. " * 200


def test_what_waits_survives_the_death_of_the_worker(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            tickets = await asked.submit(*(asked.request("slow", seed=seed, tokens=100) for seed in range(4)), asked.request("waits"))
            await until(lambda: asked.engine.stats().running_prompts == 4, "four to run")
            kill(asked.engine, "generation")  # type: ignore[arg-type]
            assert (await asyncio.wait_for(asked.engine.result(tickets[4]), 10)).text
            for ticket in tickets[:4]:
                with pytest.raises(Unavailable, match="worker"):
                    await asked.engine.result(ticket)

    asyncio.run(scenario())


def test_the_verification_worker_dies_alone(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            (generation,) = await asked.submit(asked.request("slow", tokens=30))
            with pytest.raises(Unavailable, match="verification worker"):
                await asked.engine.verdicts(await asked.verify("kill"))
            assert (await asked.engine.result(generation)).text
            assert len(await asyncio.wait_for(asked.engine.verdicts(await asked.verify("fine again")), 10)) == 1

    asyncio.run(scenario())


def test_a_request_that_kills_its_worker_every_time_does_not_stop_the_service(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            for _ in range(3):
                with pytest.raises(Unavailable, match="worker"):
                    await asked.texts(asked.request("kill"))
            assert await asyncio.wait_for(asked.texts(asked.request("after")), 10)

    asyncio.run(scenario())


def test_a_nursery_that_was_killed_is_replaced_and_nobody_notices() -> None:
    async def scenario() -> None:
        async with running(batching(Nursery())) as asked:
            engine = asked.engine
            (text,) = await asked.texts(asked.request())
            kill(engine, "nursery")  # type: ignore[arg-type]
            assert await asked.texts(asked.request()) == [text]
            kill(engine, "generation")  # type: ignore[arg-type]
            await until(lambda: engine.health().status == "worker_down", "health to drop")
            assert (await asyncio.wait_for(asked.texts(asked.request()), 30)) == [text]

    asyncio.run(scenario())


def test_a_worker_that_says_nothing_is_killed(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery, stall_seconds=1.0)) as asked:
            began = time.monotonic()
            with pytest.raises(Unavailable, match="stopped"):
                await asked.texts(asked.request("hang"))
            assert 0.9 < time.monotonic() - began < 10
            assert await asyncio.wait_for(asked.texts(asked.request("after")), 10)

    asyncio.run(scenario())


def test_prompts_wait_for_an_encoding_worker_that_died(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            (ticket,) = await asked.submit(asked.request("slow", tokens=10))
            kill(asked.engine, "encoding")  # type: ignore[arg-type]
            await until(lambda: asked.engine.health().status == "worker_down", "health to drop")
            assert await asyncio.wait_for(asked.engine.encode("Hello", 10), 10) == asked.encoder.encode("Hello", 10)
            assert (await asked.engine.result(ticket)).text, "what was being written is not disturbed"

    asyncio.run(scenario())


def test_a_stopped_worker_is_taken_for_dead(nursery: Nursery) -> None:
    """As a debugger, or a machine out of memory, would stop it."""

    async def scenario() -> None:
        async with running(batching(nursery, stall_seconds=1.0)) as asked:
            os.kill(asked.engine.processes()["verification"], signal.SIGSTOP)  # type: ignore[attr-defined]
            with pytest.raises(Unavailable, match="verification worker"):
                await asked.engine.verdicts(await asked.verify("is anybody there"))
            assert await asyncio.wait_for(asked.engine.verdicts(await asked.verify("now")), 10)

    asyncio.run(scenario())


@pytest.mark.parametrize(("load", "error", "said"), [(unloadable, BaseModelError, "no such model"), (broken, RemoteError, "RuntimeError")])
def test_a_model_that_cannot_be_loaded_ends_the_engine_with_the_reason(nursery: Nursery, load, error, said: str) -> None:
    async def scenario() -> None:
        with pytest.raises(error) as failed:
            async with running(batching(nursery, load)):
                pass
        assert said in str(failed.value) and "secret" not in str(failed.value)

    asyncio.run(scenario())


def test_a_worker_that_cannot_start_ends_the_engine_with_the_reason(nursery: Nursery) -> None:
    """A device that is not there, say."""

    async def scenario() -> None:
        with pytest.raises(BaseModelError, match="cannot be moved to device 'no-such-device'"):
            async with running(batching(nursery, device="no-such-device")):
                pass

    asyncio.run(scenario())


def test_a_long_prompt_is_read_in_pieces_and_not_taken_for_a_stall(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery, sluggish, stall_seconds=1.0)) as asked:
            (text,) = await asked.texts(asked.request("x" * 400, tokens=5))
            assert text and asked.engine.stats().restarts == 0

    asyncio.run(scenario())


def test_signals_to_the_whole_group_are_for_the_service_alone(nursery: Nursery) -> None:
    """As a supervisor sends them; the service drains and then closes the sockets."""

    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            (ticket,) = await asked.submit(asked.request("slow", tokens=10))
            for role in ("encoding", "generation", "verification"):
                for each in (signal.SIGTERM, signal.SIGINT):
                    os.kill(asked.engine.processes()[role], each)  # type: ignore[attr-defined]
            assert (await asked.engine.result(ticket)).text and asked.engine.stats().restarts == 0

    asyncio.run(scenario())


def test_workers_share_one_loaded_model(tmp_path: Path) -> None:
    async def scenario() -> None:
        nursery = Nursery()
        try:
            async with running(batching(nursery, LoadedOnce(tmp_path / "loaded"))) as asked:
                kill(asked.engine, "generation")  # type: ignore[arg-type]
                await until(lambda: asked.engine.health().status == "worker_down", "health to drop")
                assert await asyncio.wait_for(asked.texts(asked.request()), 10)
        finally:
            nursery.close()

    asyncio.run(scenario())


def test_workers_end_with_the_service(nursery: Nursery) -> None:
    async def scenario() -> list[int]:
        async with running(batching(nursery)) as asked:
            pids = asked.engine.processes()  # type: ignore[attr-defined]
            return [pids["encoding"], pids["generation"], pids["verification"]]

    pids = asyncio.run(scenario())
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "workers outlive the service"
        time.sleep(0.02)


@pytest.mark.parametrize("texts", [1, 4])
def test_a_short_text_overtakes_long_ones_and_many(nursery: Nursery, texts: int) -> None:
    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            long, many = [await asked.verify(LONG) for _ in range(texts)], await asked.verify(*["one of many texts " * 40] * 6)
            short = await asked.verify("a short one")
            await asked.engine.verdicts(short)
            assert all(ticket.finished is None for ticket in (*long, many))
            for ticket in long:
                (verdict,) = await asked.engine.verdicts(ticket)
                assert verdict.tokens == len(LONG)
            assert len(await asked.engine.verdicts(many)) == 6

    asyncio.run(scenario())


def test_the_running_batch_stays_within_its_tokens(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery, batch_tokens=700, max_new_tokens=300)) as asked:
            tickets = await asked.submit(*(asked.request("slow", seed=seed, tokens=300) for seed in range(4)))
            await until(lambda: asked.engine.stats().running_prompts == 2, "two to run")
            await asyncio.sleep(0.2)
            assert asked.engine.stats().running_prompts == 2 and asked.engine.stats().waiting_prompts == 2
            asked.engine.cancel(tickets)

    asyncio.run(scenario())


def test_the_queue_is_bounded_by_tokens_too(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery, queue_tokens=500)) as asked:
            running_now = await asked.submit(*(asked.request("slow", seed=seed, tokens=300) for seed in range(4)))
            await until(lambda: asked.engine.stats().running_prompts == 4, "four to run")
            waiting = await asked.submit(asked.request("slow", tokens=300))
            with pytest.raises(Unavailable, match="500 tokens"):
                await asked.submit(asked.request("slow", tokens=300))
            asked.engine.cancel([*running_now, *waiting])

    asyncio.run(scenario())


def test_errors_for_the_caller_come_through_and_others_lose_their_words(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            good, foreign, refused = await asked.submit(
                asked.request("good"), GenerationRequest((10**6,), SamplingSettings(max_new_tokens=5)), asked.request("refuse")
            )
            with pytest.raises(InvalidInput, match="token id"):
                await asked.engine.result(foreign)
            with pytest.raises(RemoteError) as failed:
                await asked.engine.result(refused)
            assert "ValueError" in str(failed.value) and "secret" not in str(failed.value)
            assert (await asked.engine.result(good)).text

    asyncio.run(scenario())


def test_many_sets_of_keys_are_told_apart_and_forgotten(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            (text,) = await asked.texts(asked.request(tokens=250))
            for turn in range(20):
                other = IssuerKey(f"other-{turn}", bytes([turn]) * 32)
                tickets = [await asked.verify(text, keys=keys) for keys in ((other,), (other, ACME))]
                found = [(await asked.engine.verdicts(ticket))[0].issuer for ticket in tickets]
                assert found == [None, "acme"]

    asyncio.run(scenario())


def test_cancelled_verifications_free_their_places(nursery: Nursery) -> None:
    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            began = time.monotonic()
            await asked.engine.verdicts(await asked.verify(LONG))
            alone = time.monotonic() - began
            tickets = [await asked.verify(LONG) for _ in range(8)]
            asked.engine.cancel(tickets)
            assert asked.engine.stats().waiting_texts == 0
            began = time.monotonic()
            assert await asyncio.wait_for(asked.engine.verdicts(await asked.verify("next, as long as a batch " * 60)), 10)
            assert time.monotonic() - began < 0.8 * alone  # the rest of a text that nobody waits for is not read
            for ticket in tickets:
                with pytest.raises(Cancelled):
                    await asked.engine.verdicts(ticket)

    asyncio.run(scenario())


def test_many_requests_that_come_and_go_leave_nothing_behind(nursery: Nursery) -> None:
    async def client(asked: Asked, number: int) -> int:
        done = 0
        for turn in range(8):
            with contextlib.suppress(Unavailable, Cancelled):
                tickets = await asked.submit(asked.request("hello" * (number % 5), seed=turn, tokens=5 + 7 * ((number + turn) % 6)))
                if (number + turn) % 3 == 0:
                    await asyncio.sleep(0.01)
                    asked.engine.cancel(tickets)
                await asked.engine.result(tickets[0])
                done += 1
            await asyncio.sleep(0.01)
        return done

    async def scenario() -> None:
        async with running(batching(nursery)) as asked:
            done = await asyncio.wait_for(asyncio.gather(*(client(asked, number) for number in range(12))), 60)
            assert sum(done) > 20
            stats = asked.engine.stats()
            assert (stats.running_prompts, stats.waiting_prompts, stats.queued_tokens, stats.restarts) == (0, 0, 0, 0)

    asyncio.run(scenario())
