"""The connection to the database: SQLite in a file, or PostgreSQL. Failures become `StorageUnavailable`, fast and without details.

A committed session is on the disk: SQLite runs with a write-ahead log that is synchronised at every commit.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from filelock import FileLock, Timeout
from sqlalchemy import Engine, create_engine, event, exc, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from service.storage.errors import StorageError, StorageUnavailable
from service.storage.models import ChangeCounter
from watermark.errors import InvalidInput

TIMEOUT = 5
"""Seconds until a lock, a connection or the pool is given up: a request must get its 503 soon."""
ADVISORY_LOCK = 0x636F756E74657273
"""Which PostgreSQL lock keeps two starters from migrating at once; any fixed number."""
READING = "countersign_reading"
POSTGRESQL_OPTIONS = {
    "connect_timeout": str(TIMEOUT),
    "tcp_user_timeout": str(1000 * TIMEOUT),  # a server that vanished without a word
    "options": f"-c statement_timeout={1000 * TIMEOUT} -c lock_timeout={1000 * TIMEOUT}",
    "application_name": "countersign",
}
REASONS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_CANTOPEN": "the file is not there, or may not be opened",
    "SQLITE_READONLY": "the file may not be written",
    "SQLITE_BUSY": "another process holds it",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_NOTADB": "the file is no SQLite database",
    "42P01": "its tables are missing",
    "53100": "the disk is full",
    "53300": "it has too many connections",
    "57014": "it took too long",
    "57P01": "the server is shutting down",
}


class Database:
    """Sessions on one database. Safe in several threads; make one per process, after forking."""

    def __init__(self, url: str) -> None:
        """`url`: sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/NAME. Nothing is opened yet. Raises InvalidInput."""
        self._url = _checked(url)
        self._file = Path(str(self._url.database)).expanduser().absolute() if self._url.get_backend_name() == "sqlite" else None
        self.engine = _postgresql(self._url) if self._file is None else _sqlite(self._file)
        self._reader = self.engine.execution_options(**{READING: True})

    def __repr__(self) -> str:
        # Not the URL: a password may stand in several places of it.
        return f"Database({self._url.get_backend_name()}, {self._url.database!r})"

    @property
    def dialect(self) -> str:
        return self._url.get_backend_name()

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that may write: committed at the end of the block, rolled back on any error. Raises StorageUnavailable."""
        with _failures_translated(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads, and so never waits for a writer. Raises StorageUnavailable."""
        with _failures_translated(), Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    def upgrade(self) -> None:
        """Create the database file where there is none, and bring the tables to this release's form. Safe to run in many processes.

        Raises StorageUnavailable, or StorageError when a newer release wrote the database.
        """
        config = Config()
        config.set_main_option("script_location", "service.storage:migrations")
        with self._one_upgrade_at_a_time(), _failures_translated(), self.engine.begin() as connection:
            if self._file is None:
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError:
                raise StorageError("A newer release of Countersign wrote this database. Run that release, or restore a backup.") from None

    def ping(self) -> None:
        """Whether the tables can be read now; cheap. Raises StorageUnavailable."""
        with self.reading() as session:
            session.execute(select(ChangeCounter.value).limit(1)).all()

    def close(self) -> None:
        self.engine.dispose()

    @contextlib.contextmanager
    def _one_upgrade_at_a_time(self) -> Iterator[None]:
        if self._file is None:  # PostgreSQL has a lock of its own
            yield
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(f"{self._file}.lock", timeout=60, mode=0o600):
                if not self._file.exists():  # SQLite gives the files beside it the same mode
                    os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                yield
        except Timeout:
            raise StorageUnavailable("Another process has been upgrading the database for a minute. Try again later.") from None
        except OSError as error:
            raise StorageUnavailable(f"The database file cannot be created: {error.strerror}.") from None


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = {"postgres": "postgresql"}.get(parsed.drivername, parsed.drivername)
    except exc.ArgumentError:
        parsed, backend = None, ""
    if parsed is not None and backend in ("postgresql", "postgresql+psycopg") and parsed.database:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed is not None and backend in ("sqlite", "sqlite+pysqlite") and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite+pysqlite")
    # The URL is not repeated: it may hold a password.
    raise InvalidInput("The database URL cannot be used. It should be sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME.")


def _postgresql(url: URL) -> Engine:
    options = {name: value for name, value in POSTGRESQL_OPTIONS.items() if name not in url.query}
    return create_engine(url, pool_pre_ping=True, pool_timeout=TIMEOUT, max_overflow=10, hide_parameters=True, connect_args=options)


def _sqlite(file: Path) -> Engine:
    def connect() -> sqlite3.Connection:
        # mode=rw: only `upgrade` makes a database; a file that is gone must not be replaced by an empty one in silence.
        # isolation_level None: transactions are begun below, not by the driver when it thinks fit.
        address = f"file:{quote(str(file))}?mode=rw"
        connection = sqlite3.connect(address, uri=True, timeout=TIMEOUT, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=QueuePool, pool_timeout=TIMEOUT, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def remember_file(_connection: Any, record: Any) -> None:
        record.info["file"] = _identity(file)

    @event.listens_for(engine, "checkout")
    def same_file(_connection: Any, record: Any, _proxy: Any) -> None:
        # An open connection would go on writing to a file that was deleted or replaced, and acknowledge what nobody can read.
        if record.info["file"] != _identity(file):
            raise exc.DisconnectionError("The database file was replaced.")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # A writer says so at once: a reader that turns writer halfway cannot wait for another writer, and fails instead.
        connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(READING) else "BEGIN IMMEDIATE")

    return engine


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _failures_translated() -> Iterator[None]:
    try:
        yield
    except (exc.DBAPIError, exc.TimeoutError) as error:
        if not _is_outage(error):
            raise
        reason = _reason(error)
        about = f": {reason}" if reason else ""
        # A driver's message may quote addresses and values, so it is not handed on, as a cause either.
        raise StorageUnavailable(f"The database is not available{about}. Try again later.") from None


def _is_outage(error: exc.DBAPIError | exc.TimeoutError) -> bool:
    """Everything but a statement that is wrong in itself, or against a constraint."""
    if isinstance(error, exc.TimeoutError) or error.connection_invalidated:
        return True
    outages = exc.OperationalError | exc.InterfaceError | exc.InternalError
    no_tables = getattr(error.orig, "sqlstate", None) == "42P01"  # SQLite reports these as OperationalError
    return isinstance(error, outages) or type(error) is exc.DatabaseError or no_tables


def _reason(error: exc.DBAPIError | exc.TimeoutError) -> str | None:
    origin = error.orig if isinstance(error, exc.DBAPIError) else None
    code = str(getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None) or "")
    return next((reason for start, reason in REASONS.items() if code.startswith(start)), code or None)
