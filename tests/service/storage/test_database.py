"""The database itself, on SQLite and on PostgreSQL: migrations, transactions, times, URLs."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from service.storage.database import Database
from service.storage.errors import StorageError, StorageUnavailable
from service.storage.models import AuditRow, Base, Issuer, IssuerKeyRow, now
from tests.service.storage.postgres import PASSWORD
from watermark.errors import InvalidInput


def test_the_migrations_make_what_the_models_say(database: Database) -> None:
    with database.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)
    assert differences == []


def test_upgrading_again_changes_nothing(database: Database) -> None:
    with database.session() as session:
        session.add(Issuer(name="acme", created=now()))
    database.upgrade()
    with database.reading() as session:
        assert session.scalars(select(Issuer.name)).all() == ["acme"]


def test_of_many_starters_one_migrates(url: str) -> None:
    databases = [Database(url) for _ in range(4)]
    errors: list[BaseException] = []

    def start(database: Database) -> None:
        try:
            database.upgrade()
            database.ping()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for database in databases:
        database.close()
    assert errors == []


def test_a_database_of_a_newer_release_is_refused(database: Database) -> None:
    with database.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="newer release"):
        database.upgrade()
    database.ping()  # and nothing was changed


def test_an_error_rolls_everything_back(database: Database) -> None:
    with pytest.raises(RuntimeError), database.session() as session:
        session.add(Issuer(name="acme", created=now()))
        session.flush()
        raise RuntimeError
    with database.reading() as session:
        assert session.scalars(select(Issuer)).all() == []


def test_constraints_hold_and_are_no_outage(database: Database) -> None:
    def key(issuer: str) -> IssuerKeyRow:
        return IssuerKeyRow(issuer=issuer, version=1, payload_bits=0, secret_encrypted=b"", created=now())

    with pytest.raises(IntegrityError), database.session() as session:
        session.add(key("nobody"))  # a key without its issuer
    with database.session() as session:
        session.add(Issuer(name="acme", created=now()))
        session.flush()
        session.add(key("acme"))
    with pytest.raises(IntegrityError), database.session() as session:
        session.add(key("acme"))


def test_times_come_back_in_utc(database: Database) -> None:
    east = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with database.session() as session:
        session.add(AuditRow(at=east, actor="a", action="b", detail={"nested": [1, None, "ü"]}))
    with database.reading() as session:
        row = session.scalars(select(AuditRow)).one()
    assert row.at == east and row.at.tzinfo is UTC and row.detail == {"nested": [1, None, "ü"]}


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(Exception, match="time zone"), database.session() as session:
        session.add(AuditRow(at=datetime(2026, 1, 1), actor="a", action="b", detail={}))


def test_before_the_first_upgrade_it_is_not_ready(url: str) -> None:
    database = Database(url)
    with pytest.raises(StorageUnavailable):
        database.ping()
    database.upgrade()
    database.ping()
    database.close()


def test_the_sqlite_file_is_the_owners_alone_and_durable(sqlite: Database, tmp_path: Path) -> None:
    with sqlite.session() as session:
        pragmas = {name: session.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
        session.add(Issuer(name="acme", created=now()))
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    files = list((tmp_path / "data").iterdir())
    assert {file.name for file in files} >= {"countersign.db", "countersign.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_readers_do_not_wait_for_a_writer(sqlite: Database) -> None:
    with sqlite.session() as writing:
        writing.add(Issuer(name="acme", created=now()))
        writing.flush()
        with sqlite.reading() as session:
            assert session.scalars(select(Issuer)).all() == []
    with sqlite.reading() as session:
        assert len(session.scalars(select(Issuer)).all()) == 1


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_urls_of_every_spelling(scheme: str, postgres: object) -> None:
    url = postgres.new_database()  # type: ignore[attr-defined]
    database = Database(url.replace("postgresql", scheme, 1))
    database.upgrade()
    database.ping()
    assert database.dialect == "postgresql" and PASSWORD not in repr(database)
    database.close()


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://u:planted@h/d", "postgresql://u:planted@host", "://planted", "postgresql"],
)
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(InvalidInput, match="sqlite:///FILE or postgresql://") as caught:
        Database(url)
    assert "planted" not in str(caught.value)
