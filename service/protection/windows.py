"""Moving windows in memory: how many requests of somebody lie in the last seconds.

Storages of the library `limits` keep every identity for ever, or walk through all of them from a timer; behind a public address that
is memory, or time, of a stranger's choosing. Here an identity is forgotten when its last request has left the window, and beyond
MAX_IDENTITIES the one that has been quiet longest.
"""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from limits import RateLimitItem

MAX_IDENTITIES = 100_000
Clock = Callable[[], float]


@dataclass(frozen=True)
class Counted:
    """What became of a request."""

    accepted: bool
    limits: Mapping[RateLimitItem, tuple[int, int]]
    """(requests left, seconds until one more is), of those limits that were full, or of all."""


class MovingWindows:
    """Requests by identity against several limits at once. Times are seconds of `clock`. For one thread."""

    def __init__(self, limits: Sequence[RateLimitItem], *, clock: Clock = time.monotonic, max_identities: int = MAX_IDENTITIES) -> None:
        self.limits = tuple(limits)
        self._clock, self._max_identities = clock, max_identities
        self._longest = max(limit.get_expiry() for limit in limits)
        self._times: OrderedDict[str, array[float]] = OrderedDict()
        """Times in the longest window, of each identity ascending; identities by their last time, and so the first to be over first."""

    def __len__(self) -> int:
        self._forget(self._clock() - self._longest)
        return len(self._times)

    def spend(self, identity: str) -> Counted:
        """Count a request unless a limit is full."""
        full = self.full(identity)
        if not full:
            self.hit(identity)
        return Counted(not full, {limit: (self.remaining(limit, identity), self.reset(limit, identity)) for limit in full or self.limits})

    def full(self, identity: str) -> list[RateLimitItem]:
        """The limits that take no further request now."""
        return [limit for limit in self.limits if self.remaining(limit, identity) < 1]

    def hit(self, identity: str) -> None:
        """Count a request. Whoever asks first whether a limit is full keeps the times few."""
        now = self._clock()
        self._forget(now - self._longest)
        times = self._times.setdefault(identity, array("d"))
        del times[: bisect_right(times, now - self._longest)]
        times.append(now)
        self._times.move_to_end(identity)
        if len(self._times) > self._max_identities:
            self._times.popitem(last=False)

    def take_back(self, identity: str) -> None:
        """Uncount the last request."""
        times = self._times.get(identity)
        if times:
            times.pop()
            if not times:
                del self._times[identity]

    def remaining(self, limit: RateLimitItem, identity: str) -> int:
        return limit.amount - len(self._inside(limit, identity))

    def reset(self, limit: RateLimitItem, identity: str) -> int:
        """Seconds until the oldest request leaves the limit's window, at least 1."""
        inside = self._inside(limit, identity)
        return max(1, math.ceil(inside[0] + limit.get_expiry() - self._clock())) if inside else 1

    def _inside(self, limit: RateLimitItem, identity: str) -> Sequence[float]:
        times = self._times.get(identity, ())
        return times[bisect_right(times, self._clock() - limit.get_expiry()) :]

    def _forget(self, before: float) -> None:
        while self._times:
            identity, times = next(iter(self._times.items()))
            if times[-1] > before:
                break
            del self._times[identity]
