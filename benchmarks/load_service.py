"""The service under load: the real command with the default model, in processes of its own, watched from outside."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from models.registry import DEFAULT_BASE_MODEL
from watermark.folders import cache_folder

READY_SECONDS = 600
"""The very first start converts the model."""
GENEROUS = "1000000/minute"


@dataclass(frozen=True)
class Service:
    url: str
    headers: dict[str, str]
    process: psutil.Process
    log: Path

    def metrics(self) -> dict[str, float]:
        """Those without labels, by name."""
        answer = httpx.get(f"{self.url}/metrics", headers=self.headers, timeout=30)
        answer.raise_for_status()
        lines = (line.split() for line in answer.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines if "{" not in name}

    def processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def memory(self) -> int:
        """Proportional set size of all processes, bytes: what they share counts once."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(OSError, psutil.Error):  # it ended meanwhile
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                total += 1024 * int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
        return total

    def cpu_seconds(self) -> float:
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def logged_errors(self) -> list[str]:
        """Events that the service logged as errors."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line["event"] for line in lines if line.get("level") in ("error", "critical")]


@contextlib.contextmanager
def running(threads: int | None, options: Sequence[str] = ()) -> Iterator[Service]:
    """The service on a free port with an empty database, an API key and no rate limit that matters; stopped with SIGTERM at the end.

    `options`: more of `countersign serve`.
    """
    key = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="countersign-load-") as folder:
        settings = {
            "COUNTERSIGN_HOME": folder,
            "COUNTERSIGN_CACHE": str(cache_folder()),
            "COUNTERSIGN_AUTHENTICATION": "true",
            "COUNTERSIGN_ADMIN_KEY": key,
            "COUNTERSIGN_GENERATE_RATE": GENEROUS,
            "COUNTERSIGN_VERIFY_RATE": GENEROUS,
            "COUNTERSIGN_LOG_FORMAT": "json",
            "COUNTERSIGN_THREADS": str(threads or ""),
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")} | settings
        command = [sys.executable, "-m", "watermark.cli.main", "serve", "--port", "0", "--base-model", DEFAULT_BASE_MODEL, "--json"]
        command += options
        log = Path(folder) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            url = _announced(process.stdout.readline(), log)
            service = Service(url, {"Authorization": f"Bearer {key}"}, psutil.Process(process.pid), log)
            _wait_until_ready(service, process)
            yield service
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _announced(line: str, log: Path) -> str:
    if not line:
        raise SystemExit(f"The service did not start: {log.read_text()[-2000:]}")
    return json.loads(line)["url"]


def _wait_until_ready(service: Service, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"The service ended: {service.log.read_text()[-2000:]}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200:
                return
        time.sleep(0.2)
    raise SystemExit(f"The service was not ready after {READY_SECONDS} s.")
