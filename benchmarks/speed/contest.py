"""Contestants in processes of their own, one library each. Whoever's turn it is not, is suspended.

Idle thread pools (OpenMP's, llama.cpp's, OpenVINO's) go on polling for a while and would take cores from whoever is being timed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import psutil


class NotInstalled(Exception):
    """The contestant's library, or one that it needs, is missing; `package` is what to install."""

    def __init__(self, package: str) -> None:
        super().__init__(package)
        self.package = package


class Contestant:
    """`contestant("generate", …)` calls that method of the `Engine` in `module`, in its process, where the time is taken too.

    A context manager. Raises NotInstalled when the engine's library is missing, RuntimeError with the end of its log when its process dies.
    """

    def __init__(self, module: str, options: dict[str, Any], threads: int, python: str = sys.executable) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open as long as the process runs
        command = [python, "-m", "benchmarks.speed.worker", module, json.dumps({**options, "threads": threads})]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self._handle = psutil.Process(self._process.pid)
        self.module = module
        try:
            self.versions: dict[str, str] = self._reply()["versions"]
        except BaseException:
            self.close()
            raise

    def __call__(self, call: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        with self._turn():
            self._process.stdin.write(json.dumps({"call": call, **arguments}) + "\n")
            self._process.stdin.flush()
            return self._reply()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        self._handle.resume()
        yield
        self._handle.suspend()

    def _reply(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            raise RuntimeError(f"The process of {self.module} ended: {self._log.read()[-2000:]}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "missing" in answer:
            raise NotInstalled(answer["missing"])
        return answer

    def close(self) -> None:
        self._process.kill()  # works on a suspended process too; it has nothing to tidy up
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Contestant:
        self._handle.suspend()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
