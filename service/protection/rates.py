"""Rate limits: moving windows in memory, per API key or, for those without a valid one, per client address."""

from __future__ import annotations

import ipaddress
import time
from typing import Literal

from limits import RateLimitItem, parse_many

from service.errors import Problem
from service.protection.windows import Clock, MovingWindows
from service.settings import Settings

RateName = Literal["generate", "verify", "public", "strange_key"]
STRANGE_KEY_RATE = "30/minute"
"""API keys that turn out to be none, per client address: each costs a look into the database. No person mistypes that often."""


class RateLimits:
    """`spend` counts a request. State is of this process: several behind a load balancer each allow the full rate."""

    def __init__(self, settings: Settings, *, clock: Clock = time.monotonic) -> None:
        rates: dict[RateName, str] = {
            "generate": settings.generate_rate,
            "verify": settings.verify_rate,
            "public": settings.public_rate,
            "strange_key": STRANGE_KEY_RATE,
        }
        self._windows = {name: MovingWindows(parse_many(rate), clock=clock) for name, rate in rates.items()}
        self.familiar: set[bytes] = set()
        """Digests of API keys that were good when they were last looked up."""

    def spend(self, name: RateName, identity: str) -> dict[str, str]:
        """Headers that say what is left. Raises Problem 429, which costs nothing, when a limit is reached."""
        windows = self._windows[name]
        if full := windows.full(identity):
            wait = max(windows.reset(limit, identity) for limit in full)
            tightest = min(full, key=lambda limit: limit.amount)
            raise Problem(
                429,
                "rate_limited",
                f"This server takes {' and '.join(_words(limit) for limit in windows.limits)} of this kind. Try again in {wait} s.",
                headers={"Retry-After": str(wait), **_headers(tightest, 0, wait)},
            )
        windows.hit(identity)
        left = {limit: windows.remaining(limit, identity) for limit in windows.limits}
        tightest = min(left, key=lambda limit: left[limit])
        return _headers(tightest, left[tightest], windows.reset(tightest, identity))

    def give_back(self, name: RateName, identity: str) -> None:
        """For what was counted and should not have been."""
        self._windows[name].take_back(identity)


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
