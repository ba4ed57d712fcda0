"""Issuers: created, rotated, retired, imported; what marks, what verifies, and what other processes see."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.errors import Conflict, IssuerExists, IssuerRetired
from service.storage.issuers import IssuerStore
from service.storage.models import now
from service.storage.vault import data_key
from watermark.codebook.keys import MAX_DRAWS, IssuerKey
from watermark.errors import InvalidInput, KeyRingError, UnknownIssuer


@pytest.fixture
def store(database: Database, master: MasterKey) -> IssuerStore:
    data_key(database, master)
    return IssuerStore(database, master)


def test_created(store: IssuerStore, database: Database, master: MasterKey) -> None:
    record = store.create("acme", 8)
    key = store.marking_key("acme")
    assert (record.name, record.payload_bits, record.key_version, record.retired_at) == ("acme", 8, 1, None)
    assert timedelta(seconds=-2) < now() - record.created < timedelta(minutes=1)
    assert (key.name, key.payload_bits, key.version) == ("acme", 8, 1)
    store.create("zeta")
    store.create("b.2-c")
    assert [r.name for r in store.list()] == ["acme", "b.2-c", "zeta"] and store.get("acme") == record
    assert len({k.secret for k in store.verification_keys()}) == 3
    assert IssuerStore(database, master).verification_keys() == store.verification_keys()


def test_rotated_keys_verify_and_the_new_one_marks(store: IssuerStore) -> None:
    store.create("acme", 8)
    store.create("other")
    first = store.marking_key("acme")
    record = store.rotate("acme")
    second = store.marking_key("acme")
    assert second.secret != first.secret and (second.version, second.payload_bits) == (2, 8)
    assert [(k.version, k.retired_at is None) for k in record.keys] == [(1, False), (2, True)]
    third = store.rotate("acme", 16)
    assert (third.key_version, third.payload_bits, store.marking_key("acme").version) == (3, 16, 3)
    assert [(k.name, k.version) for k in store.verification_keys()] == [("acme", 1), ("acme", 2), ("acme", 3), ("other", 1)]
    assert store.verification_keys(["acme"])[:2] == (first, second)
    assert store.rotate("other", 0).payload_bits == 0


def test_retired_issuers_verify_and_mark_nothing(store: IssuerStore) -> None:
    store.create("acme")
    key = store.marking_key("acme")
    retired = store.retire("acme")
    assert retired.retired_at is not None and retired.keys[0].retired_at is not None
    assert store.retire("acme") == retired
    assert store.verification_keys() == store.verification_keys(["acme"]) == (key,)
    for call in (lambda: store.marking_key("acme"), lambda: store.rotate("acme")):
        with pytest.raises(IssuerRetired, match="'acme' is retired"):
            call()
    with pytest.raises(IssuerExists):
        store.create("acme")


def test_which_keys_to_verify_with(store: IssuerStore) -> None:
    assert store.verification_keys() == () and store.verification_keys([]) == ()
    for name in ("a", "b", "c"):
        store.create(name)
    assert [k.name for k in store.verification_keys(["c", "a", "c"])] == ["c", "a"]
    with pytest.raises(UnknownIssuer, match="'nobody'"):
        store.verification_keys(["a", "nobody"])


def test_what_cannot_be(store: IssuerStore) -> None:
    store.create("acme")
    for call in (lambda: store.marking_key("x"), lambda: store.rotate("x"), lambda: store.retire("x"), lambda: store.get("x")):
        with pytest.raises(UnknownIssuer, match="'x'"):
            call()
    with pytest.raises(IssuerExists, match="rotate it") as caught:
        store.create("acme")
    assert isinstance(caught.value, Conflict)
    for call in (lambda: store.create("Not A Name"), lambda: store.create("b", 65), lambda: store.rotate("acme", -1)):
        with pytest.raises(InvalidInput):
            call()
    assert [(r.name, r.key_version) for r in store.list()] == [("acme", 1)]


def test_only_sound_keys_are_stored(store: IssuerStore) -> None:
    drawn: list[IssuerKey] = []

    def third(key: IssuerKey) -> bool:
        drawn.append(key)
        return len(drawn) == 3

    store.create("acme", 4, third)
    assert store.marking_key("acme").secret == drawn[2].secret
    with pytest.raises(KeyRingError, match=f"None of {MAX_DRAWS}"):
        store.rotate("acme", sound=lambda _: False)
    assert store.get("acme").key_version == 1


def test_imported_keys_are_the_same_keys(store: IssuerStore) -> None:
    key = IssuerKey("acme", b"x" * 32, 12, "2025-05-01T10:00:00+02:00")
    assert store.import_keys([key]) and not store.import_keys([key])
    assert store.marking_key("acme").secret == key.secret and store.get("acme").created.isoformat() == "2025-05-01T08:00:00+00:00"
    for other in (IssuerKey("acme", b"y" * 32, 12), IssuerKey("acme", b"x" * 32, 11)):
        with pytest.raises(IssuerExists, match="version 1"):
            store.import_keys([other])
    assert store.import_keys([IssuerKey("acme", b"z" * 32, 3, version=3)]) and store.import_keys([IssuerKey("acme", b"q" * 32, version=2)])
    assert store.marking_key("acme").secret == b"z" * 32
    assert [(k.version, k.retired_at is None) for k in store.get("acme").keys] == [(1, True), (2, False), (3, True)]
    assert store.rotate("acme").key_version == 4


def test_versions_end(store: IssuerStore) -> None:
    store.import_keys([IssuerKey("acme", b"x" * 32, version=9999)])
    with pytest.raises(InvalidInput, match="9999"):
        store.rotate("acme")
    assert store.marking_key("acme").version == 9999


def test_changes_of_other_processes_are_seen_at_once(store: IssuerStore, database: Database, master: MasterKey) -> None:
    other = IssuerStore(database, master)
    assert other.list() == ()
    store.create("acme")
    assert other.marking_key("acme") == store.marking_key("acme")
    store.rotate("acme")
    assert other.marking_key("acme").version == 2
    store.retire("acme")
    with pytest.raises(IssuerRetired):
        other.marking_key("acme")


def test_issuers_made_while_they_are_read(store: IssuerStore, database: Database, master: MasterKey, url: str) -> None:
    """On PostgreSQL each statement sees what was committed before it."""
    store.create("acme")
    other_database, made = Database(url), ["zeta", "beta"]
    other = IssuerStore(other_database, master)

    def meanwhile(*call: Any) -> None:
        if "FROM issuer" in call[2] and made:
            other.create(made.pop())

    event.listen(database.engine, "before_cursor_execute", meanwhile)
    assert {"acme"} <= {record.name for record in IssuerStore(database, master).list()} <= {"acme", "beta", "zeta"}
    assert made == [] and [record.name for record in store.list()] == ["acme", "beta", "zeta"]
    assert len(store.verification_keys()) == 3
    other_database.close()


def test_concurrent_rotations_all_count(store: IssuerStore, database: Database, master: MasterKey) -> None:
    store.create("acme")
    errors: list[BaseException] = []

    def rotate() -> None:
        try:
            IssuerStore(database, master).rotate("acme")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=rotate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    keys = IssuerStore(database, master).get("acme").keys
    assert errors == [] and [key.version for key in keys] == list(range(1, 8))
    assert [key.version for key in keys if key.retired_at is None] == [7]


def test_a_verification_opens_no_secret_twice(sqlite: Database, master: MasterKey) -> None:
    """One small query finds that nothing changed; ten thousand secrets are not opened again."""
    data_key(sqlite, master)
    store = IssuerStore(sqlite, master)
    store.create("acme")
    keys = store.verification_keys()
    with sqlite.session() as session:
        session.execute(text("UPDATE issuer_keys SET secret_encrypted = :damaged"), {"damaged": b"cannot be opened"})
    statements: list[str] = []
    event.listen(sqlite.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    assert store.verification_keys() is keys
    assert len([s for s in statements if s.startswith("SELECT")]) == 1 and "issuer_keys" not in "".join(statements)
