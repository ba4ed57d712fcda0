"""The nursery: a process that loads the model once and forks the workers, so that one that died is back at once and all share the weights.

It computes nothing itself, with one thread of its own: a lock that another thread holds would stay locked in a fork for ever. What
the API process holds is `Nursery`; what runs is `main`, as `python -m service.engine.nursery FD`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from service.engine import frames
from service.engine.messages import LoadFailed, RemoteError, Worker
from service.engine.protocol import ModelCard
from service.observability.logs import configure_logging, describe_error
from watermark.errors import CountersignError

if TYPE_CHECKING:
    from watermark.pipeline import WatermarkedModel

WORKER_ENVIRONMENT = {
    # Two workers share the cores. A thread that spins while it waits for its team, as OpenMP's do by default, holds up the other
    # worker's team, and that one the first: generation beside verification then all but stands still.
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",  # torch computes with its own threads; numpy's would be there when the nursery forks
    # torch keeps what it prepared for the shapes of the last thousand matrix products, some 2 MiB for each length of text. To prepare it
    # anew costs nothing that can be measured.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",
    "LRU_CACHE_CAPACITY": "16",
}
"""Defaults; what the operator sets in the environment counts."""

log = structlog.get_logger("countersign.nursery")
Load = Callable[[], "WatermarkedModel"]


class NurseryLost(Exception):
    """The nursery ended; a new one can be started."""


class Nursery:
    """`load(…)`, then `fork(…)` as often as needed. Calls wait, and may come from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        self._control = ours
        environment = {**WORKER_ENVIRONMENT, **os.environ, "TOKENIZERS_PARALLELISM": "false"}
        with theirs:
            command = [sys.executable, "-m", "service.engine.nursery", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def load(self, load: Load) -> ModelCard:
        """Load a model; at once if it is loaded. Raises CountersignError or RemoteError when it cannot be, NurseryLost."""
        answer = self._ask(load)
        if isinstance(answer, LoadFailed):
            raise answer.error
        return answer

    def fork(self, load: Load, worker: Worker) -> tuple[socket.socket, int]:
        """A new worker with that model: the socket on which it says Ready, and its process id. Raises NurseryLost."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                with self._lock:
                    frames.send(self._control, (load, worker))
                    socket.send_fds(self._control, [b"."], [theirs.fileno()])
                    pid = frames.receive(self._control)
            except (OSError, EOFError):
                ours.close()
                raise NurseryLost from None
        return ours, pid

    def close(self) -> None:
        """End it. Workers go on."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, message: object) -> Any:
        try:
            with self._lock:
                frames.send(self._control, message)
                return frames.receive(self._control)
        except (OSError, EOFError):
            raise NurseryLost from None


def main(descriptor: int) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the service decides when work ends, by closing the sockets
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    gc.disable()  # what is loaded is a million objects, all of them kept; looking for garbage among them takes seconds
    import torch  # what every model needs, while the service still opens its storage
    import transformers  # noqa: F401

    import watermark.pipeline  # noqa: F401

    torch.set_num_threads(1)
    control = socket.socket(fileno=descriptor)
    models: dict[Load, WatermarkedModel] = {}
    with contextlib.suppress(EOFError):  # the service is gone
        while True:
            message = frames.receive(control)
            if isinstance(message, tuple):
                load, worker = message
                _, (connection, *_), _, _ = socket.recv_fds(control, 1, 1)
                gc.collect()
                gc.freeze()  # the collector would touch, and so copy, pages that all workers share
                pid = os.fork()
                if pid == 0:
                    control.close()
                    _work(socket.socket(fileno=connection), models[load], worker)
                os.close(connection)
                frames.send(control, pid)
            else:
                frames.send(control, _loaded(message, models))


def _loaded(load: Load, models: dict[Load, WatermarkedModel]) -> ModelCard | LoadFailed:
    from service.engine.card import card_of

    try:
        if load not in models:
            models[load] = load()
            gc.collect()
            _trim()
        return card_of(models[load])
    except CountersignError as error:
        return LoadFailed(error)
    except BaseException as error:  # a SystemExit, too, must not leave the service loading for ever
        return LoadFailed(RemoteError(describe_error(error)))


def _trim() -> None:
    """Reading a large vocabulary leaves some 200 MB of freed memory in the heap; hand it back to the system, where the C library can."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _work(connection: socket.socket, model: WatermarkedModel, worker: Worker) -> None:
    """The rest of a forked worker's life. What ends it is told, and logged without its message."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.enable()
        configure_logging(worker.log_level, worker.log_format)  # type: ignore[arg-type]
        from service.engine.worker import run_worker

        run_worker(connection, model, worker)
    except BaseException as error:
        log.error("worker_failed", worker=worker.role, **describe_error(error))
        with contextlib.suppress(OSError):
            frames.send(connection, LoadFailed(error if isinstance(error, CountersignError) else RemoteError(describe_error(error))))
    finally:
        os._exit(1)  # never back into the nursery's loop, and none of its clean-up


if __name__ == "__main__":
    main(int(sys.argv[1]))
