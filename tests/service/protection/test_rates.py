from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from limits import parse_many

from service.errors import Problem
from service.protection.rates import RateLimits, RateName, address_identity
from service.protection.windows import MAX_IDENTITIES, MovingWindows
from service.settings import build_settings
from tests.service.harness import problem, serving, small_settings


class Clock:
    """Seconds, to be set by the test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spend(limits: RateLimits, name: RateName, identity: str) -> dict[str, str]:
    return asyncio.run(limits.spend(name, identity))


def test_the_window_moves(clock: Clock) -> None:
    limits = RateLimits(build_settings(generate_rate="3/minute"), clock=clock)
    for at, left in ((0, 2), (20, 1), (40, 0)):
        clock.now = 1_000_000.0 + at
        assert spend(limits, "generate", "a")["RateLimit-Remaining"] == str(left)
    with pytest.raises(Problem) as refused:
        spend(limits, "generate", "a")
    assert refused.value.status_code == 429 and refused.value.headers is not None
    assert 19 <= int(refused.value.headers["Retry-After"]) <= 21  # when the first one leaves the window
    assert refused.value.headers["RateLimit-Remaining"] == "0"
    clock.now += int(refused.value.headers["Retry-After"]) + 0.5
    spend(limits, "generate", "a")


def test_identities_and_kinds_are_counted_apart(clock: Clock) -> None:
    limits = RateLimits(build_settings(generate_rate="1/minute", verify_rate="1/minute"), clock=clock)
    spend(limits, "generate", "a")
    spend(limits, "generate", "b")
    spend(limits, "verify", "a")
    with pytest.raises(Problem):
        spend(limits, "generate", "a")


def test_of_several_limits_the_tightest_counts_and_a_refusal_costs_nothing(clock: Clock) -> None:
    limits = RateLimits(build_settings(public_rate="2/minute;3/hour"), clock=clock)
    assert [spend(limits, "public", "a")["RateLimit-Limit"] for _ in range(2)] == ["2", "2"]
    for _ in range(5):
        with pytest.raises(Problem, match="2 requests per minute and 3 requests per hour"):
            spend(limits, "public", "a")
    clock.now += 61
    assert spend(limits, "public", "a") == {"RateLimit-Limit": "3", "RateLimit-Remaining": "0", "RateLimit-Reset": "3539"}
    with pytest.raises(Problem) as refused:
        spend(limits, "public", "a")
    assert refused.value.headers and int(refused.value.headers["Retry-After"]) > 3500


def test_what_is_given_back_is_not_counted(clock: Clock) -> None:
    limits = RateLimits(build_settings(), clock=clock)
    for _ in range(100):
        spend(limits, "strange_key", "a")
        limits.give_back_strange_key("a")
    limits.give_back_strange_key("nobody")
    for _ in range(30):
        spend(limits, "strange_key", "a")
    with pytest.raises(Problem):
        spend(limits, "strange_key", "a")


def test_an_address_is_forgotten_when_its_window_is_over(clock: Clock) -> None:
    windows = MovingWindows(parse_many("20/minute;500/hour"), clock=clock)
    for place in range(10_000):
        clock.now += 0.00001
        windows.hit(f"address-{place}")
    assert len(windows) == 10_000
    clock.now += 3599
    windows.hit("address-0")
    assert len(windows) == 10_000
    clock.now += 11
    assert len(windows) == 1
    clock.now += 3600
    assert len(windows) == 0


def test_memory_and_cost_are_bounded_whoever_comes(clock: Clock) -> None:
    windows = MovingWindows(parse_many("20/minute;500/day"), clock=clock)
    began = time.process_time()
    for place in range(200_000):
        clock.now += 0.001
        windows.hit(f"address-{place}")
    assert (time.process_time() - began) / 200_000 < 50e-6  # about 1 µs
    assert len(windows) == MAX_IDENTITIES
    assert windows.remaining(windows.limits[0], "address-199999") == 19
    assert windows.remaining(windows.limits[0], "address-0") == 20  # quiet for longest


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("not an address", None, True),
    ],
)
def test_whom_an_address_stands_for(first: str, second: str | None, same: bool) -> None:
    assert (address_identity(first) == address_identity(second)) is same


def test_keys_have_their_own_limits_and_every_answer_says_what_is_left(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, authentication=True, generate_rate="2/minute", verify_rate="3/minute")) as served:
        one, two = served.api_key("one", "generate", "verify"), served.api_key("two", "generate")
        body = {"prompt": "Hi", "max_new_tokens": 3}
        assert served.client.post("/generate", json=body, headers=one).headers["ratelimit-remaining"] == "1"
        refused = served.client.post("/generate", json={**body, "issuer": "nobody"}, headers=one)
        assert refused.status_code == 404 and refused.headers["ratelimit-remaining"] == "0"  # errors count
        problem(served.client.post("/generate", json=body, headers=one), 429, "rate_limited")
        answer = served.client.post("/v1/completions", json={"model": "fake-model", "prompt": "Hi"}, headers=one)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1  # the same budget
        assert served.client.post("/verify", json={"text": "a"}, headers=one).headers["ratelimit-remaining"] == "2"
        assert served.client.post("/generate", json={**body, "stream": True}, headers=two).headers["ratelimit-remaining"] == "1"
        assert served.client.get("/issuers", headers=one).status_code == 200  # not limited


def test_nobody_is_limited_on_loopback_without_authentication(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, generate_rate="1/day", verify_rate="1/day", public_rate="1/day")) as served:
        for _ in range(3):
            assert served.generate().status_code == served.verify("a").status_code == 200
            assert "ratelimit-limit" not in served.generate().headers
