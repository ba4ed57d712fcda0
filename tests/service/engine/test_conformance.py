"""What every engine promises (`service.engine.protocol`), asked of the real one and of the fake one that other tests rely on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.engine.nursery import Nursery
from service.engine.protocol import Unavailable
from tests.service.engine.harness import ACME, NEWS, QUEUE, Asked, kill_generation, make, running, until
from watermark.errors import Cancelled, PromptTooLong

Scenario = Callable[[Asked], Awaitable[None]]


@pytest.fixture(params=["fake", "batching"])
def play(request: pytest.FixtureRequest, nursery: Nursery) -> Callable[[Scenario], None]:
    """Runs a scenario on a fresh engine."""

    async def alive(scenario: Scenario) -> None:
        async with running(make(request.param, nursery)) as asked:
            await asyncio.wait_for(scenario(asked), 60)

    return lambda scenario: asyncio.run(alive(scenario))


def test_alone_is_as_in_a_batch_and_each_message_has_its_own_text(play) -> None:
    async def scenario(asked: Asked) -> None:
        requests = [
            asked.request("same"),
            asked.request("same", key=NEWS, payload=0x2A),
            asked.request("same", key=NEWS, payload=0x2B),
            asked.request("same", key=None),
            asked.request("same", seed=2),
            asked.request("another, longer prompt", tokens=55),
            asked.request("same", strength=0.0),
        ]
        together = await asked.texts(*requests)
        alone = [(await asked.texts(request))[0] for request in requests]
        assert together == alone
        assert len(set(together[:6])) == 6 and together[3] == together[6]

    play(scenario)


def test_pieces_add_up_to_the_text(play) -> None:
    async def scenario(asked: Asked) -> None:
        tickets = await asked.submit(asked.request(), asked.request(seed=2, stop=("a", "e")))
        for ticket in tickets:
            pieces = [piece async for piece in asked.engine.stream(ticket)]
            result = await asked.engine.result(ticket)
            assert "".join(piece.text for piece in pieces) == result.text
            assert [piece.tokens for piece in pieces] == sorted(piece.tokens for piece in pieces)
            assert ticket.started and ticket.finished and ticket.submitted <= ticket.started <= ticket.finished
        assert result.finish_reason == "stop" and not {"a", "e"} & set(result.text)

    play(scenario)


def test_a_request_that_comes_later_joins_the_running_batch(play) -> None:
    async def scenario(asked: Asked) -> None:
        (long,) = await asked.submit(asked.request("slow", tokens=300))
        stream = asked.engine.stream(long)
        await anext(stream)
        text = (await asked.texts(asked.request("late", tokens=10)))[0]
        assert long.finished is None and text
        asked.engine.cancel([long])

    play(scenario)


def test_a_full_queue_refuses_all_or_nothing(play) -> None:
    async def scenario(asked: Asked) -> None:
        slow = [asked.request("slow", tokens=300, seed=seed) for seed in range(QUEUE)]
        running_now = await asked.submit(*slow[:4])
        await until(lambda: asked.engine.stats().running_prompts == 4, "four to run")
        waiting = await asked.submit(*slow[: QUEUE - 1])
        with pytest.raises(Unavailable) as refused:
            await asked.submit(*slow[:2])
        assert refused.value.code == "queue_full" and refused.value.retry_after >= 1
        last = await asked.submit(slow[0])
        assert await asked.engine.verdicts(await asked.verify("there is room for a text"))
        asked.engine.cancel([*running_now, *waiting, *last])
        await until(lambda: asked.engine.stats().waiting_prompts == 0, "the places to be freed")
        assert (await asked.texts(asked.request()))[0]

    play(scenario)


def test_cancelling_frees_the_place(play) -> None:
    async def scenario(asked: Asked) -> None:
        gone = await asked.submit(*(asked.request("slow", tokens=300, seed=seed) for seed in range(4)))
        await until(lambda: asked.engine.stats().running_prompts == 4, "four to run")
        next_one = asyncio.ensure_future(asked.texts(asked.request("next", tokens=5)))
        asked.engine.cancel(gone)
        asked.engine.cancel(gone)
        assert (await asyncio.wait_for(next_one, 5))[0]
        for ticket in gone:
            with pytest.raises(Cancelled):
                await asked.engine.result(ticket)
        done = await asked.submit(asked.request(tokens=5))
        await asked.engine.result(done[0])
        asked.engine.cancel(done)
        assert (await asked.engine.result(done[0])).text  # done ones are not touched

    play(scenario)


def test_a_poisonous_request_fails_alone(play) -> None:
    async def scenario(asked: Asked) -> None:
        good = [asked.request("good", seed=seed) for seed in range(3)]
        alone = [(await asked.texts(request))[0] for request in good]
        tickets = await asked.submit(good[0], asked.request("poison"), good[1], good[2])
        with pytest.raises(Exception) as failed:
            await asked.engine.result(tickets[1])
        assert not isinstance(failed.value, Unavailable | Cancelled)
        with pytest.raises(type(failed.value)):
            async for _ in asked.engine.stream(tickets[1]):
                pass
        for ticket, expected in zip([tickets[0], *tickets[2:]], alone, strict=True):
            assert "".join([piece.text async for piece in asked.engine.stream(ticket)]) == expected
        with pytest.raises(type(failed.value)):
            await asked.engine.verdicts(await asked.verify("fine", "poison"))
        assert len(await asked.engine.verdicts(await asked.verify("fine"))) == 1

    play(scenario)


def test_a_dead_worker_fails_what_it_had_and_is_back(play) -> None:
    async def scenario(asked: Asked) -> None:
        tickets = await asked.submit(*(asked.request("slow", tokens=300, seed=seed) for seed in range(3)))
        stream = asked.engine.stream(tickets[0])
        await anext(stream)
        dying = asyncio.ensure_future(kill_generation(asked.engine))
        await until(lambda: asked.engine.health().status == "worker_down", "health to drop")
        for ticket in tickets:
            with pytest.raises(Unavailable) as lost:
                await asked.engine.result(ticket)
            assert lost.value.code == "worker_died" and lost.value.retry_after >= 1
        with pytest.raises(Unavailable):
            async for _ in stream:
                pass
        await dying
        await until(lambda: asked.engine.health().status == "ready", "the worker to be back", 10)
        assert asked.engine.stats().restarts == 1
        assert (await asked.texts(asked.request()))[0]

    play(scenario)


def test_verification_does_not_wait_behind_generation(play) -> None:
    async def scenario(asked: Asked) -> None:
        busy = await asked.submit(*(asked.request("slow", tokens=300, seed=seed) for seed in range(8)))
        await until(lambda: asked.engine.stats().running_prompts >= 4, "generation to be busy")
        verdicts = await asyncio.wait_for(asked.engine.verdicts(await asked.verify("one text", "and another")), 5)
        assert [verdict.verdict for verdict in verdicts] == ["insufficient_text"] * 2
        assert all(ticket.finished is None for ticket in busy)
        asked.engine.cancel(busy)

    play(scenario)


def test_marked_text_is_found_in_order_by_its_own_issuer(play) -> None:
    async def scenario(asked: Asked) -> None:
        marked = await asked.texts(asked.request(tokens=250), asked.request(tokens=250, key=NEWS, seed=3, payload=7))
        plain = "Nobody marked this text, which is long enough to be judged by anybody. " * 2
        verdicts = await asked.engine.verdicts(await asked.verify(marked[0], plain, marked[1], keys=(ACME, NEWS)))
        assert [verdict.issuer for verdict in verdicts] == ["acme", None, "news"]
        assert (await asked.engine.verdicts(await asked.verify(marked[1], keys=(ACME,))))[0].issuer is None
        (alone,) = await asked.engine.verdicts(await asked.verify(marked[0], keys=(ACME, NEWS)))
        assert alone.p_value == pytest.approx(verdicts[0].p_value, rel=1e-2)

    play(scenario)


def test_draining_refuses_new_work_and_finishes_the_old(play) -> None:
    async def scenario(asked: Asked) -> None:
        (short,) = await asked.submit(asked.request(tokens=30))
        draining = asyncio.ensure_future(asked.engine.drain(20))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await asked.submit(asked.request())
        assert refused.value.code == "shutting_down" and asked.engine.health().status == "draining"
        assert (await asked.engine.result(short)).text
        await draining

    play(scenario)


def test_what_is_not_done_in_time_is_given_up_with_a_reason(play) -> None:
    async def scenario(asked: Asked) -> None:
        tickets = await asked.submit(*(asked.request("slow", tokens=300, seed=seed) for seed in range(6)))
        await until(lambda: asked.engine.stats().running_prompts >= 4, "some to run")
        await asked.engine.drain(0.1)
        for ticket in tickets:
            with pytest.raises(Unavailable) as given_up:
                await asked.engine.result(ticket)
            assert given_up.value.code == "shutting_down"

    play(scenario)


def test_prompts_are_encoded_while_generation_is_busy_and_refused_alone(play) -> None:
    async def scenario(asked: Asked) -> None:
        tickets = await asked.submit(*(asked.request("slow", seed=seed) for seed in range(QUEUE)))
        prompts = [f"prompt {number} <eos>" for number in range(3 * QUEUE)]
        encoded = await asyncio.gather(*(asked.engine.encode(prompt, 10) for prompt in prompts))
        assert encoded == [asked.encoder.encode(prompt, 10) for prompt in prompts]
        with pytest.raises(PromptTooLong, match="at most"):
            await asked.engine.encode("x" * 1000, 10)
        assert await asked.engine.encode("after it", 10)
        await until(lambda: asked.engine.stats().running_prompts > 0, "generation to be busy")
        asked.engine.cancel(tickets)

    play(scenario)


@pytest.mark.parametrize("kind", ["fake", "batching"])
def test_nothing_is_taken_before_the_model_is_loaded(nursery: Nursery, kind: str) -> None:
    engine = make(kind, nursery)
    assert engine.card is None and engine.health().status == "loading"
    with pytest.raises(Unavailable) as refused:
        asyncio.run(engine.submit([]))
    assert refused.value.code == "loading"
    with pytest.raises(Unavailable, match="still loading"):
        asyncio.run(engine.encode("a", 1))
