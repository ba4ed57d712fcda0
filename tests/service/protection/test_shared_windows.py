"""Rates that several replicas count together, in a real Redis."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import Problem
from service.protection import shared_windows
from service.protection.rates import RateLimits
from service.settings import build_settings
from tests.service.harness import problem, serving, small_settings
from tests.service.protection.redis_server import PASSWORD, RedisServer, running
from watermark.errors import InvalidInput


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
def redis_url(server: RedisServer) -> str:
    server.client.flushall()
    return server.url


def with_replicas(url: str, work: Callable[[RateLimits, RateLimits], Awaitable[None]], **rates: str) -> None:
    async def run() -> None:
        one, two = (RateLimits(build_settings(redis_url=url, **rates)) for _ in range(2))
        try:
            await work(one, two)
        finally:
            await one.close()
            await two.close()

    asyncio.run(run())


def test_replicas_allow_a_rate_together(redis_url: str) -> None:
    async def work(one: RateLimits, two: RateLimits) -> None:
        left = [(await of.spend("generate", "a"))["RateLimit-Remaining"] for of in (one, two, one)]
        assert left == ["2", "1", "0"]
        for of in (one, two):
            with pytest.raises(Problem) as refused:
                await of.spend("generate", "a")
            assert refused.value.status_code == 429 and refused.value.headers is not None
            assert 55 <= int(refused.value.headers["Retry-After"]) <= 61
        await two.spend("generate", "b")
        await two.spend("verify", "a")

    with_replicas(redis_url, work, generate_rate="3/minute")


def test_the_window_moves_and_a_refusal_costs_nothing(redis_url: str) -> None:
    async def work(one: RateLimits, two: RateLimits) -> None:
        await one.spend("public", "a")
        for _ in range(3):
            with pytest.raises(Problem, match="1 requests per second and 2 requests per hour"):
                await two.spend("public", "a")
        await asyncio.sleep(1.1)
        await two.spend("public", "a")
        with pytest.raises(Problem) as refused:
            await one.spend("public", "a")
        assert refused.value.headers and int(refused.value.headers["Retry-After"]) > 3500

    with_replicas(redis_url, work, public_rate="1/second;2/hour")


def test_many_at_once_get_no_more_than_the_rate(redis_url: str) -> None:
    async def work(one: RateLimits, two: RateLimits) -> None:
        answers = await asyncio.gather(*(of.spend("generate", "a") for of in (one, two) * 20), return_exceptions=True)
        assert sum(isinstance(answer, dict) for answer in answers) == 10
        assert all(isinstance(answer, dict | Problem) for answer in answers)

    with_replicas(redis_url, work, generate_rate="10/minute")


def test_nothing_stays_in_redis(redis_url: str, server: RedisServer) -> None:
    async def work(one: RateLimits, two: RateLimits) -> None:
        await one.spend("public", "a")
        await two.spend("generate", "b")

    with_replicas(redis_url, work, public_rate="20/minute;500/day")
    seconds: list[Any] = [server.client.ttl(key) for key in server.client.scan_iter()]
    assert len(seconds) == 3 and all(0 < left <= 86_400 for left in seconds)


def test_strange_keys_are_counted_by_each_replica(redis_url: str, server: RedisServer) -> None:
    async def work(one: RateLimits, two: RateLimits) -> None:
        await one.spend("strange_key", "a")
        assert (await two.spend("strange_key", "a"))["RateLimit-Remaining"] == "29"

    with_replicas(redis_url, work)
    assert list(server.client.scan_iter()) == []


def test_without_redis_each_replica_still_limits_until_it_is_back(
    redis_url: str, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_windows, "RETRY_SECONDS", 0.2)

    async def work(one: RateLimits, two: RateLimits) -> None:
        await one.spend("generate", "a")
        server.stop()
        for of in (one, two):
            assert [(await of.spend("generate", "a"))["RateLimit-Remaining"] for _ in range(2)] == ["1", "0"]
            with pytest.raises(Problem):
                await of.spend("generate", "a")
        server.start()  # empty
        await asyncio.sleep(0.3)
        assert [(await of.spend("generate", "a"))["RateLimit-Remaining"] for of in (one, two)] == ["1", "0"]

    with_replicas(redis_url, work, generate_rate="2/minute")


def test_a_redis_that_hangs_is_not_waited_for_long(redis_url: str, server: RedisServer) -> None:
    async def work(one: RateLimits, two: RateLimits) -> None:
        await one.spend("generate", "a")
        server.client.execute_command("CLIENT", "PAUSE", "4000", "ALL")
        began = asyncio.get_running_loop().time()
        for _ in range(20):
            await one.spend("generate", "a")
        assert asyncio.get_running_loop().time() - began < 2

    with_replicas(redis_url, work)


@pytest.mark.parametrize("url", [f"postgresql://:{PASSWORD}@localhost/0", f"redis://:{PASSWORD}@localhost:port/0"])
def test_a_bad_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput, match="redis_url is not the URL of a Redis server") as refused:
        RateLimits(build_settings(redis_url=url))
    assert PASSWORD not in str(refused.value) and refused.value.__suppress_context__


def test_a_wrong_password_is_not_logged_and_limits_stay(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def work(one: RateLimits, two: RateLimits) -> None:
        await one.spend("generate", "a")
        with pytest.raises(Problem):
            await one.spend("generate", "a")

    with_replicas(redis_url.replace(PASSWORD, "another-secret"), work, generate_rate="1/minute")
    assert "rate_limits_not_shared" in caplog.text and "another-secret" not in caplog.text


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(InvalidInput, match=r"countersign\[redis\]"):
        RateLimits(build_settings(redis_url="redis://localhost"))


def test_two_services_limit_an_address_together(redis_url: str, tmp_path: Path) -> None:
    settings = {"authentication": True, "public_rate": "3/minute", "redis_url": redis_url}
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with serving(small_settings(folders[0], **settings)) as one, serving(small_settings(folders[1], **settings)) as two:
        left = [of.client.post("/verify", json={"text": "a b c"}).headers["ratelimit-remaining"] for of in (one, two, one)]
        assert left == ["2", "1", "0"]
        problem(two.client.post("/verify", json={"text": "a b c"}), 429, "rate_limited")
