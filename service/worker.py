"""One thread that works through a bounded queue in batches.

The thread owns all work on a model: callers hand in items and wait on futures, so nothing but this file has to think about
threads. What it promises:

* a full queue refuses at once, with an estimate of when to come back;
* items whose caller left are dropped from the queue; a running batch that nobody waits for any more is cancelled;
* a failed batch is repeated item by item, so that only the item at fault fails;
* whatever ends the thread, the items in its hands fail with a clear error, `alive` turns false, and `start()` makes a new one.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from service.logging import describe_error
from watermark.errors import Cancelled

Item = TypeVar("Item")
Result = TypeVar("Result")
OnStep = Callable[[int, int], None]
Run = Callable[[list[Item], Hashable, OnStep], Sequence[Result]]

MAX_RETRY_AFTER = 120
log = structlog.get_logger("countersign.worker")


class Unavailable(Exception):
    """The work was not done and may be asked for again after `retry_after` seconds. `code` is stable."""

    def __init__(self, code: str, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


@dataclass(eq=False)
class Entry(Generic[Item, Result]):
    """One item in the queue or in work. Times are `time.monotonic()` seconds."""

    item: Item
    group: Hashable
    weight: int
    tag: str
    """Goes into log lines (a request id)."""
    future: Future[Result] = field(default_factory=Future)
    abandoned: bool = False
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    finished: float | None = None


class BatchWorker(Generic[Item, Result]):
    """See the module. `run(items, group, on_step)` returns one result per item and calls `on_step` often; it may raise.

    Only neighbours in the queue with an equal `group` share a batch, of at most `batch_size` items that weigh at most
    `batch_weight` together (one item always fits).
    """

    def __init__(self, name: str, run: Run[Item, Result], *, batch_size: int, queue_size: int, batch_weight: int | None = None) -> None:
        self.name = name
        self._run = run
        self._batch_size = batch_size
        self._queue_size = queue_size
        self._batch_weight = batch_weight
        self._queue: deque[Entry[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._in_hand: list[Entry[Item, Result]] = []
        self._refusing = False
        self._stopping = False
        self._aborting = False
        self._pace = 1.0  # seconds per batch, a moving average; only an estimate for Retry-After
        self.died_at: float | None = None

    # -- for callers ---------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and self.died_at is None

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def idle(self) -> bool:
        with self._changed:
            return not self._queue and not self._in_hand

    def start(self) -> None:
        """Start the thread, or a new one after the last died. What waits in the queue is kept."""
        with self._changed:
            assert not self.alive, "already running"
            self.died_at = None
            self._thread = threading.Thread(target=self._main, name=f"countersign-{self.name}", daemon=True)
            self._thread.start()

    def ensure_room(self, count: int) -> None:
        """Raises Unavailable (`queue_full` or `shutting_down`) when `count` items would not be taken now."""
        if self._refusing:
            raise shutting_down()
        if len(self._queue) + count > self._queue_size:
            detail = f"The {self.name} queue is full ({self._queue_size} places). Try again later."
            raise Unavailable("queue_full", detail, self.retry_after())

    def submit(
        self, items: Sequence[Item], *, group: Hashable = None, weights: Sequence[int] | None = None, tag: str = ""
    ) -> list[Entry[Item, Result]]:
        """Queue all items or none. Raises Unavailable: `queue_full` or `shutting_down`."""
        entries = [Entry[Item, Result](item, group, weights[i] if weights else 1, tag) for i, item in enumerate(items)]
        with self._changed:
            self.ensure_room(len(entries))
            self._queue.extend(entries)
            self._changed.notify_all()
        return entries

    def abandon(self, entries: Sequence[Entry[Item, Result]]) -> None:
        """Nobody waits for these any more: free their places now, and let the running batch stop if it was only for them."""
        with self._changed:
            for entry in entries:
                entry.abandoned = True
            self._queue = deque(entry for entry in self._queue if not entry.abandoned)
            self._changed.notify_all()

    def retry_after(self) -> int:
        """Seconds until the present queue is probably worked off."""
        batches = math.ceil(len(self._queue) / self._batch_size) + bool(self._in_hand)
        return max(1, min(MAX_RETRY_AFTER, math.ceil(batches * self._pace)))

    # -- shutting down -------------------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Take nothing new; finish what is there."""
        with self._changed:
            self._refusing = True

    def abort(self) -> None:
        """Fail what is queued and stop the running batch at its next step."""
        with self._changed:
            self._refusing = self._aborting = True
            dropped, self._queue = list(self._queue), deque()
        for entry in dropped:
            _settle(entry, error=shutting_down())

    def stop(self, timeout: float) -> bool:
        """End the thread after its current batch. False when it did not end in time (a daemon: it never blocks the exit)."""
        with self._changed:
            self._refusing = self._stopping = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join(timeout)
        return not (self._thread and self._thread.is_alive())

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while batch := self._take():
                self._work(batch)
                with self._changed:
                    self._in_hand = []
                    self._changed.notify_all()
        except BaseException as error:  # the thread ends here whatever it was; its items must not hang
            with self._changed:
                lost, self._in_hand = self._in_hand, []
                self.died_at = time.monotonic()
            for entry in lost:
                _settle(entry, error=Unavailable("worker_died", f"The {self.name} worker stopped while it did this and is restarted.", 2))
            log.error("worker_died", worker=self.name, lost=len(lost), **describe_error(error))

    def _take(self) -> list[Entry[Item, Result]]:
        """Wait for work. An empty list means: stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            batch: list[Entry[Item, Result]] = []
            weight = 0
            while self._queue and len(batch) < self._batch_size:
                entry = self._queue[0]
                weight += entry.weight
                if batch and (entry.group != batch[0].group or (self._batch_weight is not None and weight > self._batch_weight)):
                    break
                batch.append(self._queue.popleft())
            self._in_hand = batch
            return batch

    def _work(self, batch: list[Entry[Item, Result]]) -> None:
        """Run one batch and settle each of its futures. Only what is not an `Exception` gets out."""
        live = [entry for entry in batch if not entry.abandoned]
        if not live:
            return

        def on_step(done: int, total: int) -> None:
            if self._aborting or all(entry.abandoned for entry in live):
                raise Cancelled("Nobody waits for this batch any more.")

        began = time.monotonic()
        for entry in live:
            entry.started = entry.started or began
        try:
            results = self._run([entry.item for entry in live], live[0].group, on_step)
            if len(results) != len(live):
                raise RuntimeError(f"{len(results)} results for {len(live)} items")
        except Cancelled:
            log.info("batch_cancelled", worker=self.name, size=len(live))
            for entry in live:
                _settle(entry, error=shutting_down())
        except Exception as error:
            log.warning("batch_failed", worker=self.name, size=len(live), tags=[e.tag for e in live], **describe_error(error))
            if len(live) == 1:
                _settle(live[0], error=error)
            else:
                for entry in live:
                    self._work([entry])
        else:
            seconds = time.monotonic() - began
            self._pace += 0.3 * (seconds - self._pace)
            log.info("batch_done", worker=self.name, size=len(live), seconds=round(seconds, 3), waiting=len(self._queue))
            for entry, result in zip(live, results, strict=True):
                _settle(entry, result=result)


def _settle(entry: Entry, *, result: object = None, error: BaseException | None = None) -> None:
    entry.finished = time.monotonic()
    try:
        if error is not None:
            entry.future.set_exception(error)
        else:
            entry.future.set_result(result)
    except InvalidStateError:
        pass  # the caller cancelled it meanwhile


def shutting_down() -> Unavailable:
    return Unavailable("shutting_down", "The service is shutting down. Try again in a moment.", 5)
