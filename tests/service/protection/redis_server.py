"""A private Redis server from the distribution's program."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.service.harness import until

SCRIPT = Path(__file__).parents[3] / "scripts" / "redis.sh"
PASSWORD = "planted-redis-password"


class RedisServer:
    """Listens on a free port of loopback and keeps nothing. `stop` and `start` as a test likes."""

    def __init__(self) -> None:
        found = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
        if found.returncode:
            raise RuntimeError(found.stderr.strip())
        self._program = found.stdout.strip()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD]
        command += ["--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, "Redis to start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.client.close()
        server.stop()
