"""Whether and when to try again. No input or output here: `attempts` says what to do, and is told what came of it."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC

import httpx
from pydantic import ValidationError

from service.schemas.problem import Problem

ANNOUNCED = (429, 503)
"""The service did not do the work, and says so; but for one 503."""
PERHAPS_DONE = "storage_unavailable"
"""Where a change was asked for, the database may have made it, and the service not have heard so any more."""
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
CONNECT_SECONDS = 5.0
JITTER_SECONDS = 0.25
"""Added to what Retry-After says, so that clients that were refused together do not come back together."""


@dataclass(frozen=True)
class RetryPolicy:
    """Answers 429 and 503 are tried again; failed connections, and a storage that is away, only where the request cannot have had an
    effect that must not be repeated."""

    retries: int = 4
    first_seconds: float = 0.5
    """Longest first pause without a Retry-After; the next ones are twice as long each, and all are shortened at random."""
    longest_seconds: float = 30.0
    """A Retry-After beyond this is not waited for: the refusal is raised at once."""
    now: Callable[[], float] = time.monotonic
    jitter: Callable[[float, float], float] = random.uniform

    def pause(self, attempt: int, announced: float | None) -> float | None:
        """Seconds to wait after failed attempt `attempt` (from 0); None to give up."""
        if attempt >= self.retries:
            return None
        if announced is not None:
            return announced + self.jitter(0.0, JITTER_SECONDS) if announced <= self.longest_seconds else None
        longest = min(self.longest_seconds, self.first_seconds * 2**attempt)
        return self.jitter(longest / 2, longest)


@dataclass(frozen=True)
class Send:
    """Send the request with these timeouts, and hand back the response or the error."""

    timeout: httpx.Timeout


@dataclass(frozen=True)
class Pause:
    seconds: float


Outcome = httpx.Response | httpx.RequestError


Steps = Generator[Send | Pause, Outcome | None, Outcome]


def attempts(policy: RetryPolicy, seconds: float, repeatable: bool) -> Steps:
    """Yields what to do next, and is sent the outcome of each Send; returns the last one: any response, or the error to report.

    seconds: for everything together; no pause is begun that would outlast it.
    repeatable: whether the request may reach the service twice.
    """
    deadline = policy.now() + seconds
    attempt = 0
    while True:
        left = max(deadline - policy.now(), 0.001)
        outcome = yield Send(httpx.Timeout(left, connect=min(left, CONNECT_SECONDS)))
        assert outcome is not None
        pause = policy.pause(attempt, _announced(outcome)) if _may_repeat(outcome, repeatable) else None
        if pause is None or policy.now() + pause >= deadline:
            return outcome
        yield Pause(pause)
        attempt += 1


def _may_repeat(outcome: Outcome, repeatable: bool) -> bool:
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in ANNOUNCED and (repeatable or not _perhaps_done(outcome))
    if isinstance(outcome, NOT_SENT):
        return True
    return repeatable and isinstance(outcome, (httpx.NetworkError, httpx.RemoteProtocolError))


def _perhaps_done(refusal: httpx.Response) -> bool:
    try:
        return Problem.model_validate_json(refusal.content).code == PERHAPS_DONE
    except ValidationError:  # a proxy's own answer
        return False


def _announced(outcome: Outcome) -> float | None:
    return retry_after(outcome) if isinstance(outcome, httpx.Response) else None


def retry_after(response: httpx.Response) -> float | None:
    """Seconds of the Retry-After header, which may be a date as well; None when there is none, or none that can be read."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    at = _timestamp(value)
    if at is None:
        return None
    sent = _timestamp(response.headers.get("date", ""))  # the service's own clock, if it says what time it has
    return max(0.0, at - (time.time() if sent is None else sent))


def _timestamp(value: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
