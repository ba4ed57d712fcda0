"""What the routes share while the service runs: settings, engine, storage, and whether requests can be served."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from models.registry import checkpoint_folder
from service.engine.protocol import Engine, ModelCard, Unavailable
from service.observability.logs import describe_error
from service.observability.metrics import Metrics
from service.protection.idempotency import Idempotency
from service.protection.rates import RateLimits
from service.schemas.health import Readiness
from service.settings import Settings
from service.storage.errors import StorageUnavailable
from service.storage.open import Storage, open_storage
from watermark.calibration.key_check import KeyCheck
from watermark.errors import CountersignError

log = structlog.get_logger("countersign.runtime")

TICK = 0.05
THREADS = 32
"""For waiting on the database, mostly: while it hangs for seconds, other requests should not queue for a thread."""
STORAGE_RETRY_SECONDS = 1.0
STORAGE_FRESH_SECONDS = 1.0
"""How long an answer to "is the storage there" is believed."""
STORAGE_PATIENCE_SECONDS = 0.5
"""How long a probe may wait for that answer; a slow storage is a storage that is down."""
PURGE_SECONDS = 3600.0

OnFailure = Callable[[BaseException], None]


class Runtime:
    """`running` spans the life of the service. Loading and opening happen beside it, so that /livez answers at once."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        storage: Storage | None = None,
        *,
        prepare: Callable[[Storage], None] | None = None,
        on_failure: OnFailure | None = None,
        read_key_check: Callable[[], KeyCheck] | None = None,
    ) -> None:
        """`storage` is opened from the settings when it is not given, and handed to `prepare` before it is used.

        New keys are checked by the checkpoint's calibration, unless `read_key_check` gives another check.
        """
        self.settings = settings
        self.engine = engine
        self.metrics = Metrics(engine)
        self.rates = RateLimits(settings)
        self.idempotency = Idempotency(settings.idempotency_seconds)
        self.draining = False
        self.key_check = _Once(read_key_check or (lambda: KeyCheck.of(checkpoint_folder(settings.base_model, settings.checkpoint))))
        self._given_storage = storage
        self._prepare = prepare
        self._storage: Storage | None = None
        self._on_failure = on_failure
        self._failure: str | None = None
        self._pinged: tuple[float, bool] = (-1e9, False)
        self._ping: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drained = asyncio.Event()
        self._draining_task: asyncio.Future[None] | None = None  # the loop itself keeps only weak references

    # -- life

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS, "countersign"))
        self._drained = asyncio.Event()
        tasks = [
            asyncio.create_task(self._watched(self.engine.run(), "The model could not be loaded; the server's log says why.")),
            asyncio.create_task(self._watched(self._open(), "The storage could not be opened; the server's log says why.")),
            asyncio.create_task(self._purge_hourly()),
        ]
        try:
            yield
        finally:
            self.begin_drain()
            await self._drained.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._storage is not None and self._given_storage is None:
                await asyncio.to_thread(self._storage.close)
            await self.rates.close()
            log.info("stopped")

    def begin_drain(self) -> None:
        """Refuse new work from now on, and finish the old within `drain_seconds`. May be called from a signal handler."""
        if self._loop is None or self.draining:
            return
        self.draining = True

        def start() -> None:
            self._draining_task = asyncio.ensure_future(self._drain())

        self._loop.call_soon_threadsafe(start)

    async def _drain(self) -> None:
        log.info("draining", seconds=self.settings.drain_seconds)
        try:
            await self.engine.drain(self.settings.drain_seconds)
        finally:
            self._drained.set()

    async def _watched(self, work: Coroutine[Any, Any, None], detail: str) -> None:
        """An error here is the operator's, and final."""
        try:
            await work
        except Exception as error:
            self._failure = self._failure or detail
            reason = {"reason": str(error)} if isinstance(error, CountersignError) else {}
            log.error("start_failed", **reason, **describe_error(error))
            if self._on_failure:
                self._on_failure(error)

    async def _open(self) -> None:
        """A storage that is away at the start may come back; one that cannot be used at all raises CountersignError."""
        while self._storage is None:
            try:
                storage = self._given_storage or await asyncio.to_thread(open_storage, self.settings)
                if self._prepare is not None:
                    await asyncio.to_thread(self._prepare, storage)
                self._storage = storage
            except StorageUnavailable as error:
                log.warning("storage_unavailable", reason=str(error))
                await asyncio.sleep(STORAGE_RETRY_SECONDS)
        log.info("storage_open")

    async def _purge_hourly(self) -> None:
        while True:
            if (storage := self._storage) is None:
                await asyncio.sleep(TICK)
                continue
            try:
                await asyncio.to_thread(purge, storage, self.settings)
            except Exception as error:  # it is tried again in an hour, whatever it was
                log.warning("purge_failed", **describe_error(error))
            await asyncio.sleep(PURGE_SECONDS)

    # -- for the routes

    def require_storage(self) -> Storage:
        """Raises Unavailable until it has been opened. It may be gone since: its methods raise StorageUnavailable."""
        if self._storage is None:
            raise Unavailable("storage_unavailable", "The storage is not available yet. Try again in a few seconds.", 5)
        return self._storage

    def require_model(self) -> ModelCard:
        """Raises Unavailable while requests cannot be served."""
        if self.draining:
            raise Unavailable("shutting_down", "The service is shutting down. Try again in a moment.", 5)
        if self._failure:
            raise Unavailable("load_failed", self._failure, 60)
        if (card := self.engine.card) is None:
            raise Unavailable("loading", "The model is still loading. Try again in a few seconds.", 5)
        return card

    async def loaded(self, seconds: float) -> None:
        """Returns when the model is there, or cannot be loaded, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.engine.card is None and not self._failure:
                    await asyncio.sleep(TICK)

    async def readiness(self) -> Readiness:
        """Never waits long, whatever the storage does."""
        health, stats, card, settings = self.engine.health(), self.engine.stats(), self.engine.card, self.settings
        status, detail = health.status, health.detail
        if self.draining:
            status, detail = "draining", "The service is shutting down."
        elif self._failure:
            status, detail = "failed", self._failure
        elif status == "ready" and not await self._storage_there():
            status, detail = "storage_down", "The database is not available."
        return Readiness(
            status=status,
            detail=detail,
            model=card.model if card else settings.base_model,
            checkpoint=card.checkpoint if card else settings.checkpoint,
            waiting_prompts=stats.waiting_prompts,
            waiting_texts=stats.waiting_texts,
            max_new_tokens=settings.max_new_tokens,
            max_prompt_characters=settings.max_prompt_characters,
            max_text_characters=settings.max_text_characters,
            public_text_characters=settings.public_text_characters if settings.public_verification else None,
            authentication=settings.authenticated,
        )

    async def _storage_there(self) -> bool:
        if self._storage is None:
            return False
        asked, there = self._pinged
        if time.monotonic() - asked < STORAGE_FRESH_SECONDS:
            return there
        if self._ping is None or self._ping.done():  # one at a time: a storage that hangs must not collect threads
            self._ping = asyncio.create_task(self._ping_storage(self._storage))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._ping), STORAGE_PATIENCE_SECONDS)
            return self._pinged[1]
        return False

    async def _ping_storage(self, storage: Storage) -> None:
        try:
            await asyncio.to_thread(storage.database.ping)
            there = True
        except Exception as error:
            if not isinstance(error, StorageUnavailable):
                log.error("storage_ping_failed", **describe_error(error))
            there = False
        self._pinged = time.monotonic(), there


def purge(storage: Storage, settings: Settings) -> None:
    """Delete what is older than the settings keep. Raises StorageUnavailable."""
    now = datetime.now(UTC)
    storage.audit.purge(now - timedelta(days=settings.audit_days))
    if settings.receipt_days is not None:
        storage.receipts.purge(now - timedelta(days=settings.receipt_days))


class _Once:
    """A value that is read when it is first needed, in a thread, by one caller at a time."""

    def __init__(self, read: Callable[[], KeyCheck]) -> None:
        self._read = read
        self._value: KeyCheck | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> KeyCheck:
        async with self._lock:
            if self._value is None:
                self._value = await asyncio.to_thread(self._read)
            return self._value
