"""The database is gone, full, locked, damaged or read-only: a clear error soon, nothing half kept, and work again once it is back."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sqlite3
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.storage import database as module
from service.storage.audit import AuditLog
from service.storage.database import Database
from service.storage.errors import StorageUnavailable
from tests.service.storage.audited import note
from tests.service.storage.postgres import PASSWORD, PostgresServer


@contextmanager
def soon(seconds: float = 8.0) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_full(sqlite: Database) -> None:
    log, kept = AuditLog(sqlite), 0
    with full_disk(1_000_000), pytest.raises(StorageUnavailable, match="not available"):
        for kept in range(200):  # noqa: B007 - read below
            note(sqlite, "fill", filler="x" * 20_000)
    assert 10 < kept < 100
    assert len(log.list(1000)) == kept  # all that was acknowledged, nothing else
    note(sqlite, "after")
    assert log.list(1)[0].action == "after"


def test_sqlites_own_limit_has_a_reason(sqlite: Database) -> None:
    log = AuditLog(sqlite)
    with pytest.raises(StorageUnavailable, match="the disk is full"), sqlite.session() as session:
        session.connection().exec_driver_sql("PRAGMA max_page_count = 60")
        for _ in range(20):
            session.connection().exec_driver_sql("INSERT INTO sealed_values VALUES (hex(randomblob(16)), randomblob(20000))")
    assert log.list() == ()


def test_the_file_is_removed_and_comes_back(sqlite: Database, tmp_path: Path) -> None:
    log, file = AuditLog(sqlite), tmp_path / "data" / "countersign.db"
    note(sqlite, "before")
    (tmp_path / "aside").mkdir()
    names = [path.name for path in file.parent.iterdir()]
    for name in names:
        (file.parent / name).rename(tmp_path / "aside" / name)
    for call in (sqlite.ping, lambda: note(sqlite, "meanwhile"), log.list):
        with soon(2), pytest.raises(StorageUnavailable, match="not there"):
            call()
    assert not file.exists()  # no empty one in its place
    for name in names:
        (tmp_path / "aside" / name).rename(file.parent / name)
    assert [record.action for record in log.list()] == ["before"]
    note(sqlite, "after")


def test_a_file_that_was_replaced_is_seen(sqlite: Database, tmp_path: Path) -> None:
    log, file = AuditLog(sqlite), tmp_path / "data" / "countersign.db"
    note(sqlite, "first")
    with sqlite3.connect(file) as source, sqlite3.connect(tmp_path / "backup.db") as backup:
        source.backup(backup)
    note(sqlite, "lost with the restored backup")
    for path in file.parent.glob("countersign.db*"):
        path.unlink()
    shutil.copy(tmp_path / "backup.db", file)
    assert [record.action for record in log.list()] == ["first"]
    note(sqlite, "second")
    assert sqlite3.connect(file).execute("SELECT count(*) FROM audit_log").fetchone() == (2,)


def test_locked_by_another_process(sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)  # of connections that are still to be made
    other = sqlite3.connect(tmp_path / "data" / "countersign.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    sqlite.close()
    with soon(3), pytest.raises(StorageUnavailable, match="another process"):
        note(sqlite, "blocked")
    sqlite.ping()  # reading goes on
    other.execute("ROLLBACK")
    note(sqlite, "free")


@pytest.mark.parametrize("content", [b"this is no database at all" * 200, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "countersign.db"
    file.write_bytes(content)
    with pytest.raises(StorageUnavailable, match="no SQLite database|damaged"):
        Database(f"sqlite:///{file}").upgrade()
    assert file.read_bytes()[:4096] == content[:4096]


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """As somebody whom file modes bind: root ignores them."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory() as name, unprivileged(Path(name)):
        folder = Path(name)
        database = Database(f"sqlite:///{folder}/countersign.db")
        database.upgrade()
        note(database, "before")
        database.close()
        (folder / "countersign.db").chmod(0o400)
        folder.chmod(0o500)
        for call in (lambda: note(database, "refused"), database.upgrade):
            with pytest.raises(StorageUnavailable):
                call()
        with pytest.raises(StorageUnavailable, match="cannot be created: Permission denied"):
            Database(f"sqlite:///{folder}/below/countersign.db").upgrade()
        folder.chmod(0o700)
        (folder / "countersign.db").chmod(0o600)
        note(database, "after")
        assert [record.action for record in AuditLog(database).list()] == ["after", "before"]
        database.close()


def test_postgresql_is_stopped_and_comes_back(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    database = Database(url)
    database.upgrade()
    log = AuditLog(database)
    note(database, "before")
    with pytest.raises(StorageUnavailable, match="not available"), database.session() as session:
        session.connection().exec_driver_sql("INSERT INTO sealed_values VALUES ('half', 'way')")
        postgres.stop()  # in the middle of a transaction
        session.connection().exec_driver_sql("INSERT INTO sealed_values VALUES ('other', 'half')")
    for call in (database.ping, lambda: note(database, "meanwhile"), log.list, Database(url).upgrade):
        with soon(), pytest.raises(StorageUnavailable):
            call()
    postgres.start()
    database.ping()
    note(database, "after")
    assert [record.action for record in log.list()] == ["after", "before"]
    with database.reading() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM sealed_values").scalar() == 0
    database.close()


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.POSTGRESQL_OPTIONS, "connect_timeout", "2")  # the least that libpq takes
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        database = Database(f"postgresql://user:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/name")
        with soon(5), pytest.raises(StorageUnavailable):
            database.ping()


def test_a_statement_that_takes_too_long(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.POSTGRESQL_OPTIONS, "options", "-c statement_timeout=200")
    database = Database(postgres.new_database())
    with soon(3), pytest.raises(StorageUnavailable, match="took too long"), database.session() as session:
        session.connection().exec_driver_sql("SELECT pg_sleep(10)")
    database.close()


def test_the_password_is_in_no_error(postgres: PostgresServer) -> None:
    wrong = "planted-wrong-password"
    url = postgres.new_database().replace(PASSWORD, wrong)
    for address in (url, url.replace(f":{postgres.port}/", ":1/"), url.replace(f":{wrong}@", "@") + f"?password={wrong}"):
        database = Database(address)
        with pytest.raises(StorageUnavailable) as caught:
            database.upgrade()
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(database)
        assert wrong not in shown and "127.0.0.1" not in str(caught.value)
        database.close()
