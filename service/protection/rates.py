"""Rate limits: moving windows, per API key or, for those without a valid one, per client address."""

from __future__ import annotations

import ipaddress
import time
from typing import Literal

from limits import RateLimitItem, parse_many

from service.errors import Problem
from service.protection.shared_windows import SharedStore, SharedWindows
from service.protection.windows import Clock, Counted, MovingWindows
from service.settings import Settings

RateName = Literal["generate", "verify", "public", "strange_key"]
SHARED: tuple[RateName, ...] = ("generate", "verify", "public")
STRANGE_KEY_RATE = "30/minute"
"""API keys that turn out to be none, per client address: each costs a look into the database. No person mistypes that often."""


class RateLimits:
    """`spend` counts a request: in Redis, where the settings name one, and several processes behind a load balancer allow the rate
    together; otherwise in this process.

    Strange API keys are always counted here: they are to spare this process's connections to the database, and may be given back.
    """

    def __init__(self, settings: Settings, *, clock: Clock = time.monotonic) -> None:
        """Raises InvalidInput for a Redis that cannot be used."""
        rates: dict[RateName, str] = {
            "generate": settings.generate_rate,
            "verify": settings.verify_rate,
            "public": settings.public_rate,
            "strange_key": STRANGE_KEY_RATE,
        }
        self._windows = {name: MovingWindows(parse_many(rate), clock=clock) for name, rate in rates.items()}
        self._store = None if settings.redis_url is None else SharedStore(settings.redis_url.get_secret_value())
        self._shared: dict[RateName, SharedWindows] = {}
        if self._store is not None:
            for name in SHARED:
                self._shared[name] = SharedWindows(name, self._store, self._windows[name])
        self.familiar: set[bytes] = set()
        """Digests of API keys that were good when they were last looked up."""

    async def spend(self, name: RateName, identity: str) -> dict[str, str]:
        """Headers that say what is left. Raises Problem 429, which costs nothing, when a limit is reached."""
        windows = self._windows[name]
        counted = await self._spend(name, identity)
        if not counted.accepted:
            wait = max(reset for _, reset in counted.limits.values())
            tightest = min(counted.limits, key=lambda limit: limit.amount)
            raise Problem(
                429,
                "rate_limited",
                f"This server takes {' and '.join(_words(limit) for limit in windows.limits)} of this kind. Try again in {wait} s.",
                headers={"Retry-After": str(wait), **_headers(tightest, 0, wait)},
            )
        tightest = min(counted.limits, key=lambda limit: counted.limits[limit][0])
        return _headers(tightest, *counted.limits[tightest])

    def give_back_strange_key(self, identity: str) -> None:
        """For a key that was counted as strange before it was looked up, and is none."""
        self._windows["strange_key"].take_back(identity)

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()

    async def _spend(self, name: RateName, identity: str) -> Counted:
        if shared := self._shared.get(name):
            return await shared.spend(identity)
        return self._windows[name].spend(identity)


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
