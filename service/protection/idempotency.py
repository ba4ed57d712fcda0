"""`Idempotency-Key`: a request that is sent again, because its answer got lost, is not done again.

In memory only, for answers hold texts, and those are never stored. So it helps against lost connections, not against a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from service.errors import Problem

MAX_ENTRIES = 10_000
MAX_BYTES = 64 * 1024 * 1024


@dataclass
class _Entry:
    digest: bytes
    work: asyncio.Task[bytes]
    size: int = 0
    expires: float | None = None
    """None while the work runs."""


class Idempotency:
    """Finished answers by API key and idempotency key; the oldest make room for new ones. Errors are not kept."""

    def __init__(
        self,
        seconds: float,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._max_entries, self._max_bytes, self._clock = seconds, max_entries, max_bytes, clock
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._bytes = 0

    async def once(self, actor: str, key: str, digest: bytes, work: Callable[[], Coroutine[Any, Any, bytes]]) -> tuple[bytes, bool]:
        """The answer, and whether it is that of an earlier request, which may still have been running.

        `digest` stands for the request's content. Raises Problem (`idempotency_mismatch`) when the key came with another one, and
        what `work` raises. The work goes on when the caller leaves: it may come back for the answer.
        """
        self._evict()
        name = (actor, key)
        entry = self._entries.get(name)
        if entry is not None and entry.digest != digest:
            detail = "This Idempotency-Key came with another request before. Use a new key for a new request."
            raise Problem(422, "idempotency_mismatch", detail)
        replayed = entry is not None
        if entry is None:
            entry = self._entries[name] = _Entry(digest, asyncio.ensure_future(work()))
            entry.work.add_done_callback(lambda _task: self._settle(name, entry))
        return await asyncio.shield(entry.work), replayed

    def _settle(self, name: tuple[str, str], entry: _Entry) -> None:
        # Asking for the exception also tells asyncio that somebody knows of it when everybody has left.
        if entry.work.cancelled() or entry.work.exception() is not None:
            del self._entries[name]
            return
        entry.size, entry.expires = len(entry.work.result()), self._clock() + self._seconds
        self._bytes += entry.size
        self._entries.move_to_end(name)  # by the time of their end, so that the first one expires first
        self._evict()

    def _evict(self) -> None:
        now = self._clock()
        for name, entry in list(self._entries.items()):
            if entry.expires is None:
                continue
            if entry.expires > now and len(self._entries) <= self._max_entries and self._bytes <= self._max_bytes:
                break
            del self._entries[name]
            self._bytes -= entry.size
