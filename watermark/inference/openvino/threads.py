"""One team of threads at a time: while OpenVINO computes, torch and numpy's BLAS have one thread each.

They are left with small arrays. Threads that have finished wait for more work by spinning, and hold up OpenVINO's meanwhile
(docs/experiments.md, "Whose threads hold up whose").
"""

from __future__ import annotations

import threading
from typing import Any

from threadpoolctl import ThreadpoolController


class OneBlasThread:
    """A context that several threads may be in at once: the number is the process's, so the first one in changes it, and the last one out
    restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._libraries: list[Any] | None = None
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                # Looked for here, when they have been loaded, and once: the search takes far longer than a change.
                if self._libraries is None:
                    self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
                # `limit` would ask each library for all that it knows of itself, and this is done for every token.
                self._before = [library.num_threads for library in self._libraries]
                for library in self._libraries:
                    library.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for library, threads in zip(self._libraries or (), self._before, strict=True):
                    library.set_num_threads(threads)


ONE_BLAS_THREAD = OneBlasThread()
