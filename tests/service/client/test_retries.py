"""When the client tries again, and how long it waits: with a clock that stands still unless somebody sleeps."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    ProblemError,
    RateLimited,
    RetryPolicy,
    ServiceUnavailable,
    UnexpectedAnswer,
)

ISSUERS = httpx.Response(200, json={"issuers": []})
Outcome = httpx.Response | Exception
Ask = Callable[[Client], Any]


class FakeClock:
    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept.append(round(seconds, 6))


class FakeService:
    """Answers with one outcome after another, and keeps what it was asked."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return httpx.Response(outcome.status_code, headers=outcome.headers, content=outcome.content)


def fake_client(service: FakeService, clock: FakeClock, timeout: float = 100.0, **policy: Any) -> Client:
    # the upper end of each random pause
    retries = RetryPolicy(now=lambda: clock.time, jitter=lambda low, high: high, **policy)
    client = Client("http://countersign.test", retries=retries, timeout=timeout, transport=httpx.MockTransport(service))
    client._sleep = clock.sleep
    return client


def refused(status: int, code: str = "queue_full", **headers: str) -> httpx.Response:
    body = {"type": "x", "title": "x", "status": status, "detail": "Not now.", "instance": "/", "code": code}
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


CALLS: dict[str, Ask] = {
    "generate": lambda client: client.generate("x"),
    "stream": lambda client: list(client.stream("x")),
    "verify": lambda client: client.verify("x"),
    "issuers": lambda client: client.issuers(),
    "create_issuer": lambda client: client.create_issuer("acme"),
    "rotate_issuer": lambda client: client.rotate_issuer("acme"),
    "retire_issuer": lambda client: client.retire_issuer("acme"),
}
REPEATABLE = ("generate", "verify", "issuers")


def test_a_refusal_is_waited_out_for_as_long_as_it_says() -> None:
    clock, service = FakeClock(), FakeService(refused(503, Retry_After="7"), refused(429, Retry_After="0"), ISSUERS)
    assert fake_client(service, clock).issuers() == []
    assert clock.slept == [7.25, 0.25]


def test_retry_after_may_be_a_date_by_the_services_own_clock() -> None:
    sent, until = (email.utils.formatdate(at, usegmt=True) for at in (2_000_000_000, 2_000_000_009))
    clock = FakeClock()
    answers = [refused(503, Retry_After=until, Date=sent), refused(503, Retry_After=sent, Date=until), ISSUERS]
    fake_client(FakeService(*answers), clock).issuers()
    assert clock.slept == [9.25, 0.25]


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "²", "Tue, 99 Foo 2026 99:00:00 GMT"])
def test_a_retry_after_that_cannot_be_read_is_as_none(value: str) -> None:
    clock = FakeClock()
    response = httpx.Response(503, headers=[(b"retry-after", value.encode())])
    fake_client(FakeService(response, response, response, ISSUERS), clock).issuers()
    assert clock.slept == [0.5, 1.0, 2.0]


def test_pauses_grow_to_a_limit_and_are_shortened_at_random() -> None:
    policy = RetryPolicy(retries=9, first_seconds=1, longest_seconds=5, jitter=lambda low, high: low)
    assert [policy.pause(attempt, None) for attempt in range(10)] == [0.5, 1, 2, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, None]


def test_a_wait_beyond_the_limit_is_left_to_the_caller() -> None:
    clock, service = FakeClock(), FakeService(refused(429, Retry_After="31"))
    with pytest.raises(RateLimited) as error:
        fake_client(service, clock).issuers()
    assert clock.slept == [] and error.value.retry_after == 31


def test_no_pause_outlasts_the_calls_time() -> None:
    clock, service = FakeClock(), FakeService(refused(503, Retry_After="8"), refused(503, Retry_After="8"), ISSUERS)
    with pytest.raises(ServiceUnavailable):
        fake_client(service, clock, timeout=15).issuers()
    assert clock.slept == [8.25]
    timeouts = [request.extensions["timeout"]["read"] for request in service.requests]
    assert timeouts == [15, 15 - 8.25]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [429, 503])
def test_announced_refusals_are_tried_again_and_at_last_raised(call: str, status: int) -> None:
    clock, service = FakeClock(), FakeService(*[refused(status)] * 3)
    with pytest.raises(ProblemError) as error:
        CALLS[call](fake_client(service, clock, retries=2))
    assert len(service.requests) == 3 and error.value.status == status and error.value.code == "queue_full"


@pytest.mark.parametrize("call", CALLS)
def test_a_change_that_the_database_may_have_made_is_not_tried_again(call: str) -> None:
    service = FakeService(*[refused(503, "storage_unavailable", Retry_After="1")] * 3)
    with pytest.raises(ServiceUnavailable) as error:
        CALLS[call](fake_client(service, FakeClock(), retries=2))
    assert error.value.code == "storage_unavailable" and len(service.requests) == (3 if call in REPEATABLE else 1)


def test_a_proxys_503_is_tried_again() -> None:
    service = FakeService(*[httpx.Response(503, html="<h1>storage_unavailable</h1>")] * 3)
    with pytest.raises(ServiceUnavailable):
        CALLS["create_issuer"](fake_client(service, FakeClock(), retries=2))
    assert len(service.requests) == 3


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500, 502, 504])
def test_other_errors_are_raised_at_once(call: str, status: int) -> None:
    service = FakeService(refused(status, Retry_After="1"))
    with pytest.raises(ProblemError):
        CALLS[call](fake_client(service, FakeClock()))
    assert len(service.requests) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x")])
def test_what_was_never_sent_is_tried_again(call: str, error: Exception) -> None:
    service = FakeService(error, error)
    with pytest.raises(ConnectionFailed):
        CALLS[call](fake_client(service, FakeClock(), retries=1))
    assert len(service.requests) == 2


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", [httpx.ReadError("x"), httpx.WriteError("x"), httpx.RemoteProtocolError("x")])
def test_what_may_have_been_done_is_tried_again_only_if_doing_it_twice_is_harmless(call: str, error: Exception) -> None:
    service = FakeService(error, error)
    with pytest.raises(ConnectionFailed):
        CALLS[call](fake_client(service, FakeClock(), retries=1))
    assert len(service.requests) == (2 if call in REPEATABLE else 1)


def test_an_answer_that_does_not_come_in_time() -> None:
    service = FakeService(httpx.ReadTimeout("x"))
    with pytest.raises(DeadlineExceeded):
        fake_client(service, FakeClock()).verify("x")
    assert len(service.requests) == 1


def test_every_attempt_of_a_generation_has_the_same_key_and_every_generation_another() -> None:
    service = FakeService(*[refused(503)] * 4, *[refused(422)] * 2)
    client = fake_client(service, FakeClock(), retries=1)
    for key in (None, None, "mine", None):
        with pytest.raises(ProblemError):
            client.generate("x", idempotency_key=key)
    keys = [request.headers["idempotency-key"] for request in service.requests]
    assert keys[0] == keys[1] != keys[2] == keys[3] and keys[4] == "mine" and len(set(keys)) == 4


def test_the_async_client_waits_alike() -> None:
    clock, service = FakeClock(), FakeService(httpx.ConnectError("x"), refused(503, Retry_After="7"), ISSUERS)

    async def ask() -> None:
        async def sleep(seconds: float) -> None:
            clock.sleep(seconds)

        retries = RetryPolicy(now=lambda: clock.time, jitter=lambda low, high: high)
        async with AsyncClient("http://countersign.test", retries=retries, transport=httpx.MockTransport(service)) as client:
            client._sleep = sleep
            await client.issuers()

    asyncio.run(ask())
    assert clock.slept == [0.5, 7.25] and len(service.requests) == 3


# -- answers that are not the service's own


def test_a_proxys_error_is_told_apart_and_not_quoted() -> None:
    service = FakeService(httpx.Response(502, html="<h1>SECRET proxy page</h1>"))
    with pytest.raises(ProblemError) as error:
        fake_client(service, FakeClock()).issuers()
    assert (error.value.status, error.value.code) == (502, "http_502") and "SECRET" not in str(error.value)


@pytest.mark.parametrize("answer", [httpx.Response(200, html="<p>Hi</p>"), httpx.Response(200, json={"issuers": 5}), httpx.Response(302)])
def test_an_answer_that_cannot_be_read(answer: httpx.Response) -> None:
    for call in (CALLS["issuers"], CALLS["stream"]):
        with pytest.raises(UnexpectedAnswer):
            call(fake_client(FakeService(answer), FakeClock()))


# -- waiting for a start


def readiness(status: str) -> httpx.Response:
    body = {"status": status, "detail": "…", "model": "m", "checkpoint": None, "waiting_prompts": 0, "waiting_texts": 0}
    limits = dict.fromkeys(("max_new_tokens", "max_prompt_characters", "max_text_characters", "public_text_characters"), 1)
    return httpx.Response(200 if status == "ready" else 503, json={**body, **limits, "authentication": False})


def test_waiting_until_the_service_is_ready() -> None:
    down = [httpx.ConnectError("x"), httpx.Response(502), readiness("loading"), readiness("storage_down")]
    clock, service = FakeClock(), FakeService(*down, readiness("ready"))
    assert fake_client(service, clock).wait_until_ready(10).status == "ready"
    assert clock.slept == [0.25] * 4


def test_waiting_ends() -> None:
    clock = FakeClock()
    with pytest.raises(DeadlineExceeded, match="within 1 seconds. loading"):
        fake_client(FakeService(*[readiness("loading")] * 9), clock).wait_until_ready(1)
    assert clock.time <= 1001
    with pytest.raises(ServiceUnavailable):
        fake_client(FakeService(readiness("failed")), clock).wait_until_ready(10)
    with pytest.raises(ProblemError):
        fake_client(FakeService(refused(404)), clock).wait_until_ready(10)


def test_readiness_is_asked_once_and_told_as_it_is() -> None:
    service = FakeService(readiness("draining"))
    assert fake_client(service, FakeClock()).readiness().status == "draining" and len(service.requests) == 1
