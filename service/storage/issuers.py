"""Issuers and their keys. A rotated or retired key marks nothing any more and verifies for ever; none is ever deleted.

Opened keys are kept in memory until the change counter of the issuers rises, so that a verification costs one small query, and
changes by other processes are seen by the next request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.storage.audit import AuditEntry
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.errors import IssuerExists, IssuerRetired
from service.storage.models import ChangeCounter, Issuer, IssuerKeyRow, now
from service.storage.vault import check_master, key_identity
from watermark.codebook.keys import IssuerKey, check_name, draw_key
from watermark.errors import UnknownIssuer

COUNTER = "issuers"
Sound = Callable[[IssuerKey], bool]


@dataclass(frozen=True)
class KeyRecord:
    """One version of an issuer's key, without the secret."""

    version: int
    payload_bits: int
    created: datetime
    retired_at: datetime | None
    """Since when it marks nothing."""


@dataclass(frozen=True)
class IssuerRecord:
    name: str
    payload_bits: int
    key_version: int
    """Of the key that marks now, or marked last; payload_bits is of the same key."""
    created: datetime
    retired_at: datetime | None
    keys: tuple[KeyRecord, ...]
    """All versions, the oldest first."""


@dataclass(frozen=True)
class _Book:
    """Everything about the issuers at one value of the change counter."""

    counter: int
    records: dict[str, IssuerRecord]
    keys: dict[str, tuple[IssuerKey, ...]]
    """By name, the oldest version first."""
    every: tuple[IssuerKey, ...]


class IssuerStore:
    """Safe in several threads. All methods raise StorageUnavailable, and MasterKeyError when a secret does not open.

    A change and its audit record are kept together or not at all.
    """

    def __init__(self, database: Database, master: MasterKey) -> None:
        self._database, self._master = database, master
        self._lock = threading.Lock()
        self._book: _Book | None = None

    def create(self, name: str, payload_bits: int = 0, sound: Sound | None = None, audit: AuditEntry | None = None) -> IssuerRecord:
        """A new issuer with a fresh key; with `sound`, the first one drawn that it accepts.

        Raises InvalidInput (name, payload_bits), IssuerExists, and KeyRingError when no key drawn was sound.
        """
        if check_name(name) in self._current().records:  # before minutes may go into checking keys
            raise _exists(name)
        key = draw_key(name, payload_bits, sound)
        with self._database.session() as session:
            check_master(session, self._master)
            _count_change(session)
            if session.get(Issuer, name) is not None:
                raise _exists(name)
            self._add(session, key, audit)
        return self.get(name)

    def rotate(
        self, name: str, payload_bits: int | None = None, sound: Sound | None = None, audit: AuditEntry | None = None
    ) -> IssuerRecord:
        """A fresh key for an issuer, with as many payload bits as before unless said otherwise; the old one only verifies from now on.

        Raises UnknownIssuer, IssuerRetired, InvalidInput (payload_bits, too many versions) and KeyRingError as `create`.
        """
        before = self._marking(name)
        drawn = draw_key(name, before.payload_bits if payload_bits is None else payload_bits, sound)
        with self._database.session() as session:
            check_master(session, self._master)
            _count_change(session)
            issuer, keys = session.get_one(Issuer, name), _rows(session, name)
            if issuer.retired_at is not None:
                raise _retired(name)
            _retire(keys)
            self._add(session, replace(drawn, version=keys[-1].version + 1), audit)
        return self.get(name)

    def retire(self, name: str, audit: AuditEntry | None = None) -> IssuerRecord:
        """Nothing is marked for this issuer any more, and it cannot be undone; doing it again changes nothing. Raises UnknownIssuer."""
        self.get(name)
        with self._database.session() as session:
            _count_change(session)
            issuer, keys = session.get_one(Issuer, name), _rows(session, name)
            issuer.retired_at = issuer.retired_at or now()
            _retire(keys)
            _note(session, audit, keys[-1])
        return self.get(name)

    def import_keys(self, keys: Iterable[IssuerKey], audit: AuditEntry | None = None) -> tuple[IssuerKey, ...]:
        """Store keys made elsewhere, all or none; those that were new. Of several versions of an issuer the highest marks.

        Raises IssuerExists when another key is stored under the name and version of one of them.
        """
        with self._database.session() as session:
            check_master(session, self._master)
            _count_change(session)
            new = tuple(key for key in keys if not self._is_stored(session, key))
            for key in new:
                self._add(session, key, audit)
        return new

    def _is_stored(self, session: Session, key: IssuerKey) -> bool:
        """Raises IssuerExists when it is another key."""
        row = next((row for row in _rows(session, key.name) if row.version == key.version), None)
        if row is None:
            return False
        stored = self._key(row.issuer, row.version, row.payload_bits, row.secret_encrypted, row.created)
        if (stored.secret, stored.payload_bits) != (key.secret, key.payload_bits):
            raise IssuerExists(
                f"Another key of issuer {key.name!r}, version {key.version}, is stored already. Texts marked with it need it, "
                "so it is not replaced."
            )
        return True

    def list(self) -> tuple[IssuerRecord, ...]:
        """By name, retired ones too."""
        return tuple(self._current().records.values())

    def get(self, name: str) -> IssuerRecord:
        """Raises UnknownIssuer."""
        record = self._current().records.get(name)
        if record is None:
            raise UnknownIssuer(f"There is no issuer {name!r}.")
        return record

    def marking_key(self, name: str) -> IssuerKey:
        """The key that marks for an issuer now. Raises UnknownIssuer and IssuerRetired."""
        return self._marking(name)

    def verification_keys(self, names: Iterable[str] | None = None) -> tuple[IssuerKey, ...]:
        """Every version of every issuer's key, or of those named, each once. Raises UnknownIssuer."""
        book = self._current()
        if names is None:
            return book.every
        for name in (names := tuple(dict.fromkeys(names))):
            if name not in book.keys:
                raise UnknownIssuer(f"There is no issuer {name!r}.")
        return tuple(key for name in names for key in book.keys[name])

    def _marking(self, name: str) -> IssuerKey:
        book = self._current()
        if name not in book.records:
            raise UnknownIssuer(f"There is no issuer {name!r}.")
        if book.records[name].retired_at is not None:
            raise _retired(name)
        return book.keys[name][-1]

    def _add(self, session: Session, key: IssuerKey, audit: AuditEntry | None) -> None:
        created = _time(key.created)
        if session.get(Issuer, key.name) is None:
            session.add(Issuer(name=key.name, created=created))
            session.flush()
        later = any(row.version > key.version for row in _rows(session, key.name))
        row = IssuerKeyRow(
            issuer=key.name,
            version=key.version,
            payload_bits=key.payload_bits,
            secret_encrypted=self._master.seal(key.secret, key_identity(key.name, key.version)),
            created=created,
            retired_at=now() if later else None,
        )
        session.add(row)
        _note(session, audit, row)

    def _key(self, name: str, version: int, payload_bits: int, sealed: bytes, created: datetime) -> IssuerKey:
        secret = self._master.open(sealed, key_identity(name, version))
        return IssuerKey(name, secret, payload_bits, created.isoformat(timespec="seconds"), version)

    def _current(self) -> _Book:
        with self._database.reading() as session:
            counter = session.scalars(select(ChangeCounter.value).where(ChangeCounter.name == COUNTER)).one()
            book = self._book
            if book is not None and book.counter == counter:
                return book
            with self._lock:  # one thread opens the keys, the others take what it found
                if self._book is None or self._book.counter != counter:
                    self._book = self._read(session, counter)
                return self._book

    def _read(self, session: Session, counter: int) -> _Book:
        # Before their keys: one that is made in between is left to the next reading, rather than known without a key.
        issuers = session.execute(select(Issuer.name, Issuer.created, Issuer.retired_at)).all()
        # Columns, not objects: ten thousand of them are read in a fraction of the time.
        table = IssuerKeyRow
        columns = table.issuer, table.version, table.payload_bits, table.secret_encrypted, table.created, table.retired_at
        keys: dict[str, list[IssuerKey]] = {}
        records: dict[str, list[KeyRecord]] = {}
        for name, version, bits, sealed, created, retired_at in session.execute(select(*columns).order_by(table.issuer, table.version)):
            keys.setdefault(name, []).append(self._key(name, version, bits, sealed, created))
            records.setdefault(name, []).append(KeyRecord(version, bits, created, retired_at))
        # Sorted here: databases disagree on the order of strings.
        found = {
            name: IssuerRecord(name, keys[name][-1].payload_bits, keys[name][-1].version, created, retired_at, tuple(records[name]))
            for name, created, retired_at in sorted(issuers, key=lambda row: row[0])
        }
        ordered = {name: tuple(keys[name]) for name in found}
        return _Book(counter, found, ordered, tuple(key for versions in ordered.values() for key in versions))


def _count_change(session: Session) -> None:
    """First in every change: its row lock also lets one change go after the other on PostgreSQL."""
    session.execute(update(ChangeCounter).where(ChangeCounter.name == COUNTER).values(value=ChangeCounter.value + 1))


def _note(session: Session, audit: AuditEntry | None, key: IssuerKeyRow) -> None:
    if audit:
        audit.write(session, key.issuer, key_version=key.version, payload_bits=key.payload_bits)


def _rows(session: Session, name: str) -> list[IssuerKeyRow]:
    """The keys of an issuer, the oldest version first."""
    return list(session.scalars(select(IssuerKeyRow).where(IssuerKeyRow.issuer == name).order_by(IssuerKeyRow.version)))


def _time(created: str) -> datetime:
    """When a key was made, as far as it says."""
    try:
        return datetime.fromisoformat(created).astimezone(UTC)
    except ValueError:
        return now()


def _retire(keys: Iterable[IssuerKeyRow]) -> None:
    for key in keys:
        key.retired_at = key.retired_at or now()


def _exists(name: str) -> IssuerExists:
    return IssuerExists(f"Issuer {name!r} exists already. For a new key of the same issuer, rotate it.")


def _retired(name: str) -> IssuerRetired:
    return IssuerRetired(f"Issuer {name!r} is retired: its texts are still verified, but nothing is marked for it any more.")
