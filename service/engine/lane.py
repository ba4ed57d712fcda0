"""One worker process as the service sees it: what waits for it, what it has in hand, and its life and death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable

import structlog

from service.engine import frames
from service.engine.messages import Cancel, Failed, Finished, Keys, LoadFailed, Ready, VerifyText, Written
from service.engine.protocol import Piece, Unavailable
from service.engine.work import FairQueue, Item, Work
from watermark.errors import Cancelled

log = structlog.get_logger("countersign.engine")

MAX_RETRY_AFTER = 120
MAX_PAUSE = 5.0
"""Before a worker that keeps dying is started again: a fork is cheap, and the service is to be back within ten seconds."""
SHORT_LIFE = 30.0
"""A worker that lived longer than this is started again without a longer pause."""

KEY_SETS = 16
"""Key sets that a worker remembers beyond those it needs."""

Fork = Callable[[], Awaitable[tuple[socket.socket, int]]]
"""A new worker: the socket to talk to it, and its process id."""
Room = Callable[[Item, list[Item]], bool]
"""Whether the worker should be given an item beside those that it has."""


class Lane:
    """Feeds one worker and hands on what it says. `keep` starts it, and starts it again whenever it died.

    `overtaking`: a work whose item has no room lets others go before it.
    """

    def __init__(self, name: str, room: Room, fork: Fork, *, restart_seconds: float, overtaking: bool) -> None:
        self.name = name
        self.queue = FairQueue(overtaking)
        self.up = asyncio.Event()
        self.restarts = 0
        self.pid: int | None = None
        self._room, self._fork, self._restart_seconds = room, fork, restart_seconds
        self._running: dict[int, tuple[Work, Item]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._known_keys: set[int] = set()
        self._heard = time.monotonic()
        self._ever_up = False
        self._pace = 0.0  # seconds per token of the budget, a moving average; only for Retry-After

    # -- for the engine

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def idle(self) -> bool:
        return not self._running and not self.queue.items

    def add(self, work: Work) -> None:
        self.queue.add(work)
        self._feed()

    def cancel(self, work: Work, error: BaseException | None = None) -> None:
        """Free all places of it, queued and running."""
        self.queue.remove(work)
        for number in [number for number, (other, _) in self._running.items() if other is work]:
            del self._running[number]
            self._send(Cancel(number))
        work.fail(error or Cancelled("Nobody waits for this any more."))
        self._feed()

    def cancel_all(self, error: BaseException) -> None:
        for work in {*self.queue, *(work for work, _ in self._running.values())}:
            self.cancel(work, error)

    def retry_after(self) -> int:
        """Seconds until what waits now is probably done."""
        return max(1, min(MAX_RETRY_AFTER, round(self.queue.tokens * self._pace)))

    def stalled(self, seconds: float) -> bool:
        """Whether it has been silent for so long, while it starts or has something to do."""
        busy = bool(self._running) or not self.up.is_set()
        return self.pid is not None and busy and time.monotonic() - self._heard > seconds

    def kill(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def keep(self) -> None:
        """Until cancelled."""
        pause = self._restart_seconds
        while True:
            connection, self.pid = await self._fork()
            reader, self._writer = await asyncio.open_connection(sock=connection)
            born = self._heard = time.monotonic()
            try:
                await self._listen(reader)
            except EOFError:
                pass
            finally:
                self.up.clear()
                self._writer.close()
                self._writer, self.pid = None, None
            self._lose()
            self.restarts += 1
            if time.monotonic() - born > SHORT_LIFE:
                pause = self._restart_seconds
            await asyncio.sleep(pause)
            pause = min(MAX_PAUSE, max(0.05, pause) * 2)

    # -- inside

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            message = await frames.receive_async(reader)
            self._heard = time.monotonic()
            if isinstance(message, Ready):
                self._known_keys = set()
                self._ever_up = True
                self.up.set()
                log.info("worker_ready", worker=self.name, pid=self.pid)
            elif isinstance(message, LoadFailed) and not self._ever_up:
                raise message.error  # the first one could not even start, and neither would the next
            elif isinstance(message, Written):
                self._written(message)
            elif isinstance(message, Finished | Failed):
                self._settle(message)
            self._feed()

    def _written(self, message: Written) -> None:
        if message.number in self._running:  # else it was cancelled meanwhile
            work, _ = self._running[message.number]
            work.ticket.first_token = work.ticket.first_token or time.monotonic()
            work.pieces.put_nowait(Piece(message.text, message.tokens))

    def _settle(self, message: Finished | Failed) -> None:
        if message.number not in self._running:
            return
        work, _ = self._running.pop(message.number)
        if isinstance(message, Failed):
            self.cancel(work, message.error)
            return
        work.finish(message.number, message.result)
        if work.ticket.finished and work.ticket.started:
            pace = (work.ticket.finished - work.ticket.started) / max(1, work.ticket.tokens) / max(1, len(self._running) + 1)
            self._pace += 0.2 * (pace - self._pace) if self._pace else pace

    def _feed(self) -> None:
        while self.up.is_set() and (taken := self.queue.take(self._fits)):
            work, item = taken
            work.ticket.started = work.ticket.started or time.monotonic()
            if isinstance(item, VerifyText):
                self._send_keys(item.keys, work)
            if not self._running:
                self._heard = time.monotonic()  # silence counts from when there is something to say
            self._running[item.number] = (work, item)
            self._send(item)

    def _fits(self, item: Item) -> bool:
        return self._room(item, [other for _, other in self._running.values()])

    def _send_keys(self, number: int, work: Work) -> None:
        if number in self._known_keys:
            return
        forget: set[int] = set()
        if len(self._known_keys) >= KEY_SETS:
            forget = self._known_keys - {item.keys for _, item in self._running.values() if isinstance(item, VerifyText)}
        self._known_keys = (self._known_keys - forget) | {number}
        self._send(Keys(number, work.keys, tuple(forget)))

    def _send(self, message: object) -> None:
        if self._writer:
            self._writer.write(frames.pack(message))

    def _lose(self) -> None:
        """The worker died with what it had in hand; what waits is kept for the next one."""
        works = {work for work, _ in self._running.values()}
        log.error("worker_died", worker=self.name, lost=[work.ticket.tag for work in works])
        self._running.clear()
        for work in works:
            self.queue.remove(work)
            work.fail(Unavailable("worker_died", f"The {self.name} worker stopped while it did this and is restarted.", 2))
