"""Moving windows in Redis, which the replicas of a service count together."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import structlog
from limits import RateLimitItem
from limits.errors import StorageError

from service.observability.logs import describe_error
from service.protection.windows import Counted, MovingWindows
from watermark.errors import InvalidInput

log = structlog.get_logger("countersign.rates")

PREFIX = "countersign"
PATIENCE_SECONDS = 0.5
"""How long Redis may take to connect or to answer. Every limited request waits for it."""
RETRY_SECONDS = 5.0
"""How long Redis is left alone after it failed."""


class SharedStore:
    """The connection, for one event loop. Raises InvalidInput for a URL that is none of Redis', and without the package."""

    def __init__(self, url: str) -> None:
        try:
            from redis.asyncio import ConnectionPool
        except ImportError as error:
            raise InvalidInput(
                "The setting redis_url needs the package redis. Install it with: pip install 'countersign[redis]'."
            ) from error
        from limits.aio.storage import RedisStorage
        from limits.aio.strategies import MovingWindowRateLimiter

        try:
            self._pool = ConnectionPool.from_url(url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS)
        except ValueError:
            # `from None`: the URL, with its password, may be in the message
            raise InvalidInput(
                "redis_url is not the URL of a Redis server. It should be redis://:PASSWORD@HOST:6379/0 or rediss://…."
            ) from None
        pool: Any = self._pool  # a keyword that the library hands on to its client
        storage = RedisStorage("async+redis://", wrap_exceptions=True, implementation="redispy", key_prefix=PREFIX, connection_pool=pool)
        self.limiter = MovingWindowRateLimiter(storage)
        self._retry_at = 0.0

    @property
    def away(self) -> bool:
        """It failed a moment ago."""
        return time.monotonic() < self._retry_at

    def failed(self, error: BaseException) -> None:
        """Leave it alone for a while. While it is away, that is logged each time it was asked in vain."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        log.warning("rate_limits_not_shared", retry_seconds=RETRY_SECONDS, **describe_error(error))

    async def close(self) -> None:
        await self._pool.aclose()


class SharedWindows:
    """Requests by identity against several limits, in `store`; while that is away, in this process alone, so that they stay limited."""

    def __init__(self, name: str, store: SharedStore, spare: MovingWindows) -> None:
        self._name, self._store, self._spare = name, store, spare
        self.limits: Sequence[RateLimitItem] = spare.limits

    async def spend(self, identity: str) -> Counted:
        """Count a request unless a limit is full. Two that come at once may both find room in one limit and not in the next: the
        second is then refused, and counts in the first."""
        if not self._store.away:
            try:
                return await self._spend(identity)
            except StorageError as error:
                self._store.failed(error)
        return self._spare.spend(identity)

    async def _spend(self, identity: str) -> Counted:
        limiter, of_whom = self._store.limiter, (self._name, identity)
        full = [limit for limit in self.limits if not await limiter.test(limit, *of_whom)]
        if not full:
            full = [limit for limit in self.limits if not await limiter.hit(limit, *of_whom)]
        found = {}
        for limit in full or self.limits:
            stats = await limiter.get_window_stats(limit, *of_whom)
            remaining = 0 if full else max(0, int(stats.remaining))
            found[limit] = (remaining, max(1, math.ceil(stats.reset_time - time.time())))
        return Counted(not full, found)
