"""A private PostgreSQL server from the distribution's programs, for the tests that must hold on both databases."""

from __future__ import annotations

import os
import pwd
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

SCRIPT = Path(__file__).parents[3] / "scripts" / "postgres.sh"
USER, PASSWORD = "countersign", "planted-postgres-password"


def programs() -> Path:
    """Where initdb and postgres are."""
    found = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(found.stderr.strip())
    return Path(found.stdout.strip())


class PostgresServer:
    """Listens on a free port of loopback. `stop` and `start` as a test likes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._programs = folder, programs()
        self._process: subprocess.Popen | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # PostgreSQL refuses to run as root
        user = next((u for u in pwd.getpwall() if u.pw_name in ("postgres", "nobody")), None) if os.geteuid() == 0 else None
        self._as: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        initdb = [self._programs / "initdb", "-D", folder / "data", "-U", USER, "-A", "scram-sha-256", "--pwfile", password]
        initdb += ["-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(initdb, check=True, cwd=folder, stdout=subprocess.DEVNULL, **self._as)
        self.start()

    def start(self) -> None:
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._as)
        for _ in range(300):
            try:
                psycopg.connect(self._admin, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text())

    def stop(self) -> None:
        """At once: clients see their connections break."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait(timeout=30)
            self._process = None

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    @property
    def _admin(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"


@contextmanager
def running() -> Iterator[PostgresServer]:
    # Not below pytest's own folder, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="countersign-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        try:
            yield server
        finally:
            server.stop()
