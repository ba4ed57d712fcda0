"""Rate limits: a moving window in memory, per API key or, for the public, per client address."""

from __future__ import annotations

import ipaddress
import math
import time
from typing import Literal

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from service.errors import Problem
from service.settings import Settings

RateName = Literal["generate", "verify", "public"]


class RateLimits:
    """`spend` counts a request. State is of this process: several behind a load balancer each allow the full rate."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._limits: dict[RateName, list[RateLimitItem]] = {
            "generate": parse_many(settings.generate_rate),
            "verify": parse_many(settings.verify_rate),
            "public": parse_many(settings.public_rate),
        }

    def spend(self, name: RateName, identity: str) -> dict[str, str]:
        """Headers that say what is left. Raises Problem 429, which costs nothing, when a limit is reached."""
        limits = self._limits[name]
        full = [limit for limit in limits if not self._limiter.test(limit, name, identity)]
        if full:
            wait = max(self._reset(limit, name, identity) for limit in full)
            tightest = min(full, key=lambda limit: limit.amount)
            raise Problem(
                429,
                "rate_limited",
                f"This server takes {' and '.join(_words(limit) for limit in limits)} of this kind. Try again in {wait} s.",
                headers={"Retry-After": str(wait), **_headers(tightest, 0, wait)},
            )
        for limit in limits:
            self._limiter.hit(limit, name, identity)
        left = {limit: self._limiter.get_window_stats(limit, name, identity).remaining for limit in limits}
        tightest = min(limits, key=lambda limit: left[limit])
        return _headers(tightest, left[tightest], self._reset(tightest, name, identity))

    def _reset(self, limit: RateLimitItem, name: str, identity: str) -> int:
        """Seconds until the oldest request leaves the window, at least 1."""
        return max(1, math.ceil(self._limiter.get_window_stats(limit, name, identity).reset_time - time.time()))


def address_identity(host: str | None) -> str:
    """Whom an address stands for: itself, or for IPv6 its /64, which one customer has as a whole."""
    if not host:
        return "unknown"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


def _words(limit: RateLimitItem) -> str:
    granularity = limit.GRANULARITY.name
    return f"{limit.amount} requests per {granularity if limit.multiples == 1 else f'{limit.multiples} {granularity}s'}"


def _headers(limit: RateLimitItem, remaining: int, reset: int) -> dict[str, str]:
    return {"RateLimit-Limit": str(limit.amount), "RateLimit-Remaining": str(remaining), "RateLimit-Reset": str(reset)}
