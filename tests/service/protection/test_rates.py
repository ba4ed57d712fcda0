from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import Problem
from service.protection.rates import RateLimits, address_identity
from service.settings import build_settings
from tests.service.harness import problem, serving, small_settings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, to be set by the test."""
    now = [1_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


def test_the_window_moves(clock: list[float]) -> None:
    limits = RateLimits(build_settings(generate_rate="3/minute"))
    for at, left in ((0, 2), (20, 1), (40, 0)):
        clock[0] = 1_000_000 + at
        assert limits.spend("generate", "a")["RateLimit-Remaining"] == str(left)
    with pytest.raises(Problem) as refused:
        limits.spend("generate", "a")
    assert refused.value.status_code == 429 and refused.value.headers is not None
    assert 19 <= int(refused.value.headers["Retry-After"]) <= 21  # when the first one leaves the window
    assert refused.value.headers["RateLimit-Remaining"] == "0"
    clock[0] += int(refused.value.headers["Retry-After"]) + 0.5
    limits.spend("generate", "a")


def test_identities_and_kinds_are_counted_apart(clock: list[float]) -> None:
    limits = RateLimits(build_settings(generate_rate="1/minute", verify_rate="1/minute"))
    limits.spend("generate", "a")
    limits.spend("generate", "b")
    limits.spend("verify", "a")
    with pytest.raises(Problem):
        limits.spend("generate", "a")


def test_of_several_limits_the_tightest_counts_and_a_refusal_costs_nothing(clock: list[float]) -> None:
    limits = RateLimits(build_settings(public_rate="2/minute;3/hour"))
    assert [limits.spend("public", "a")["RateLimit-Limit"] for _ in range(2)] == ["2", "2"]
    for _ in range(5):
        with pytest.raises(Problem, match="2 requests per minute and 3 requests per hour"):
            limits.spend("public", "a")
    clock[0] += 61
    assert limits.spend("public", "a") == {"RateLimit-Limit": "3", "RateLimit-Remaining": "0", "RateLimit-Reset": "3539"}
    with pytest.raises(Problem) as refused:
        limits.spend("public", "a")
    assert refused.value.headers and int(refused.value.headers["Retry-After"]) > 3500


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
