"""A worker process: a thread hears the service, the main thread computes. Ends when the service is gone."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from service.engine import frames
from service.engine.encoding import Encoding
from service.engine.generating import Generating
from service.engine.messages import Alive, Ready, Worker
from service.engine.verifying import Verifying

if TYPE_CHECKING:
    from watermark.pipeline import WatermarkedModel

IDLE_SECONDS = 1.0
GENERATION_NICE = 10
"""Generation gives way: a verification takes a moment and somebody waits for it, a generation takes seconds anyway."""

Tell = Callable[[object], None]


class Inbox:
    """Messages from the service, in order."""

    def __init__(self, connection: socket.socket) -> None:
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.quiet = False
        """Whether the latest `waiting` waited in vain: there is nothing to do."""
        threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: socket.socket) -> None:
        try:
            while True:
                self._messages.put(frames.receive(connection))
        finally:
            os._exit(0)  # nobody is left to work for, or can be understood

    def waiting(self, wait: bool) -> list[Any]:
        """All that came since the last call; with `wait`, something or nothing after IDLE_SECONDS."""
        found: list[Any] = []
        with contextlib.suppress(queue.Empty):
            if wait:
                found.append(self._messages.get(timeout=IDLE_SECONDS))
            while True:
                found.append(self._messages.get_nowait())
        self.quiet = wait and not found
        return found


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_worker(connection: socket.socket, model: WatermarkedModel, worker: Worker) -> None:
    """Until the service closes the connection."""

    def tell(message: object) -> None:
        try:
            frames.send(connection, message)
        except OSError:
            os._exit(0)

    inbox = Inbox(connection)
    loop = _loop(model, worker, inbox, tell)
    loop.warm_up()
    model.lm.release()
    if worker.role == "generation":  # after the warm-up: the service waits for that
        os.nice(GENERATION_NICE)
    tell(Ready())
    released = True
    while True:
        tell(Alive())
        loop.turn()
        if inbox.quiet and not released:
            model.lm.release()  # 200 MiB after a few requests
        released = inbox.quiet


def _loop(model: WatermarkedModel, worker: Worker, inbox: Inbox, tell: Tell) -> Encoding | Generating | Verifying:
    if worker.role == "encoding":
        return Encoding(model, inbox, tell)
    import torch

    torch.set_num_threads(worker.threads or cores())
    if worker.device != str(model.lm.device):
        model.to(worker.device)
    model.check_base_model()  # in the fork: the nursery must not compute
    if worker.role == "generation":
        return Generating(model, inbox, tell)
    return Verifying(model, inbox, tell, worker.batch_characters)
