from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import Problem
from service.protection.idempotency import Idempotency
from tests.service.harness import Served, places, problem, serving, small_settings, until


def send(served: Served, key: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    content = {"prompt": "Hello", "max_new_tokens": 20, **body}
    return served.client.post("/generate", json=content, headers={"Idempotency-Key": key, **(headers or {})})


def test_a_request_sent_again_gets_the_same_answer_and_is_not_done_again(served: Served) -> None:
    first, again = send(served, "k1"), send(served, "k1")
    assert first.status_code == again.status_code == 200 and again.content == first.content
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == "application/json"
    other = send(served, "k2")
    assert other.json()["results"][0]["id"] != first.json()["results"][0]["id"] and "idempotency-replayed" not in other.headers
    spelled_out = send(served, "k1", temperature=1.0, strength=1)  # the same request, said otherwise
    assert spelled_out.content == first.content


def test_another_request_with_the_same_key_is_a_mistake(served: Served) -> None:
    assert send(served, "k3").status_code == 200
    assert "new key" in problem(send(served, "k3", seed=1), 422, "idempotency_mismatch")["detail"]


def test_one_that_still_runs_is_waited_for(served: Served) -> None:
    done = len(served.engine.submitted)
    with ThreadPoolExecutor(2) as pool:
        with served.holding():
            first = pool.submit(send, served, "k4")
            until(lambda: served.unfinished == 1, "the first one to be under way")
            second = pool.submit(send, served, "k4")
            problem(send(served, "k4", seed=1), 422, "idempotency_mismatch")
            assert served.unfinished == 1
        assert first.result().content == second.result().content
    assert len(served.engine.submitted) == done + 1


def test_a_client_that_lost_its_connection_comes_back_for_the_answer(served: Served) -> None:
    done = len(served.engine.submitted)
    with served.holding():
        with pytest.raises(httpx.ReadTimeout):
            served.client.post("/generate", json={"prompt": "Hello"}, headers={"Idempotency-Key": "k5"}, timeout=0.2)
        until(lambda: len(served.engine.submitted) == done + 1, "the request to arrive")
    answer = served.client.post("/generate", json={"prompt": "Hello"}, headers={"Idempotency-Key": "k5"})
    assert answer.status_code == 200 and answer.headers["idempotency-replayed"] == "true"
    assert len(served.engine.submitted) == done + 1


def test_errors_are_not_kept(served: Served) -> None:
    problem(send(served, "k6", issuer="not-yet"), 404, "unknown_issuer")
    served.storage.issuers.create("not-yet")
    assert send(served, "k6", issuer="not-yet").status_code == 200
    served.on_loop(lambda: setattr(served.engine, "queue_size", 0))
    problem(send(served, "k7"), 503, "queue_full")
    served.on_loop(lambda: setattr(served.engine, "queue_size", 64))
    assert send(served, "k7").status_code == 200


def test_not_with_a_stream(served: Served) -> None:
    assert places(problem(send(served, "k8", stream=True), 422, "invalid_input")) == {"/stream"}


def test_keys_of_different_callers_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, authentication=True)) as served:
        one, two = (served.api_key(name, "generate") for name in ("one", "two"))
        first, other = send(served, "same", one), send(served, "same", two, seed=1)
        assert first.status_code == other.status_code == 200 and first.content != other.content
        assert send(served, "same", one).content == first.content


# -- the memory itself


def answers(*contents: bytes) -> list[Coroutine[Any, Any, bytes]]:
    async def work(content: bytes) -> bytes:
        await asyncio.sleep(0)
        return content

    return [work(content) for content in contents]


def test_answers_expire() -> None:
    now = [0.0]

    async def main() -> None:
        memory = Idempotency(10, clock=lambda: now[0])
        for at, content, replayed in ((0, b"a", False), (9, b"a", True), (11, b"b", False)):
            now[0] = at
            (work,) = answers(b"b" if at == 11 else b"a")
            assert await memory.once("me", "k", b"d", lambda work=work: work) == (content, replayed)
            work.close()

    asyncio.run(main())


@pytest.mark.parametrize(("max_entries", "max_bytes"), [(3, 10**9), (10**9, 30)])
def test_memory_is_bounded_and_the_oldest_go_first(max_entries: int, max_bytes: int) -> None:
    async def main() -> None:
        memory = Idempotency(1e9, max_entries=max_entries, max_bytes=max_bytes)
        for i in range(50):
            (work,) = answers(b"0123456789")
            assert await memory.once("me", str(i), b"d", lambda work=work: work) == (b"0123456789", False)
        replayed = []
        for i in (49, 48, 47, 46):  # the newest first, so that asking does not push out what is asked for
            try:
                await memory.once("me", str(i), b"other", lambda: answers(b"")[0])
            except Problem:  # it remembers the first request
                replayed.append(i)
        assert replayed == [49, 48, 47]

    asyncio.run(main())


def test_a_failure_reaches_everybody_who_waits_and_is_forgotten() -> None:
    async def main() -> None:
        memory = Idempotency(1e9)
        go = asyncio.Event()

        async def fail() -> bytes:
            await go.wait()
            raise Problem(503, "queue_full", "full")

        waiting = [asyncio.ensure_future(memory.once("me", "k", b"d", fail)) for _ in range(3)]
        await asyncio.sleep(0)
        go.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, Problem) for outcome in outcomes)
        assert await memory.once("me", "k", b"d", lambda: answers(b"fine")[0]) == (b"fine", False)

    asyncio.run(main())
