"""The audit log: newest first, a page at a time, and only as long as it should be kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from service.receipts.signer import ReceiptSigner
from service.storage import purging
from service.storage.api_keys import ApiKeyStore
from service.storage.audit import AuditEntry, AuditLog
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.errors import StorageUnavailable
from service.storage.issuers import IssuerStore
from service.storage.models import AuditRow, now
from service.storage.vault import data_key, reencrypt
from tests.service.storage.audited import note
from watermark.codebook.keys import IssuerKey

OTHER = MasterKey(b"other".ljust(32, b"."))


def test_recorded_and_listed(database: Database) -> None:
    log = AuditLog(database)
    assert log.list() == ()
    note(database, "issuer.rotate", "acme", "request-1", key_version=2)
    note(database, "database.reencrypt")
    last, first = log.list()
    assert (first.actor, first.action, first.subject) == ("tester", "issuer.rotate", "acme")
    assert (first.request_id, first.detail) == ("request-1", {"key_version": 2})
    assert (last.subject, last.request_id, last.detail) == (None, None, {}) and last.id > first.id
    assert timedelta(seconds=-2) < now() - last.at < timedelta(minutes=1)


def test_pages(database: Database) -> None:
    log = AuditLog(database)
    for number in range(7):
        note(database, f"action-{number}")
    pages, before = [], None
    while page := log.list(3, before):
        pages.append([record.action for record in page])
        before = page[-1].id
    assert pages == [["action-6", "action-5", "action-4"], ["action-3", "action-2", "action-1"], ["action-0"]]


def test_retention(database: Database) -> None:
    log = AuditLog(database)
    note(database, "old")
    border = now()
    note(database, "new")
    assert log.purge(border) == 1 and [record.action for record in log.list()] == ["new"]
    assert log.purge(border) == 0


def _changes(database: Database, master: MasterKey) -> dict[str, Callable[[AuditEntry], object]]:
    """Everything that can be changed, by its action, in a database that has an issuer, an API key and a signing key."""
    data_key(database, master)
    issuers, keys, signer = IssuerStore(database, master), ApiKeyStore(database), ReceiptSigner(database, master)
    issuers.create("acme", 4)
    keys.create("page", ["verify"])
    signer.public_keys()
    return {
        "issuer.create": lambda audit: issuers.create("new", 8, audit=audit),
        "issuer.rotate": lambda audit: issuers.rotate("acme", audit=audit),
        "issuer.import": lambda audit: issuers.import_keys([IssuerKey("brought", b"x" * 32, 2)], audit),
        "issuer.retire": lambda audit: issuers.retire("acme", audit),
        "api_key.create": lambda audit: keys.create("other", ["admin"], audit=audit),
        "api_key.revoke": lambda audit: keys.revoke("page", audit),
        "signing_key.rotate": signer.rotate,
        "database.reencrypt": lambda audit: reencrypt(database, master, OTHER, audit),
    }


def test_every_change_is_recorded_with_what_it_changed(database: Database, master: MasterKey) -> None:
    for action, change in _changes(database, master).items():
        change(AuditEntry("ops", action, "request-1"))
    records = {record.action: record for record in AuditLog(database).list()}
    assert {(record.actor, record.request_id) for record in records.values()} == {("ops", "request-1")}
    signing = ReceiptSigner(database, OTHER).public_keys()[0].key_id
    assert {action: (record.subject, record.detail) for action, record in records.items()} == {
        "issuer.create": ("new", {"key_version": 1, "payload_bits": 8}),
        "issuer.rotate": ("acme", {"key_version": 2, "payload_bits": 4}),
        "issuer.import": ("brought", {"key_version": 1, "payload_bits": 2}),
        "issuer.retire": ("acme", {"key_version": 2, "payload_bits": 4}),
        "api_key.create": ("other", {"scopes": ["admin"]}),
        "api_key.revoke": ("page", {}),
        "signing_key.rotate": (signing, {}),
        "database.reencrypt": (None, {"values": 7}),
    }


def test_a_change_that_cannot_be_recorded_is_not_made(database: Database, master: MasterKey) -> None:
    changes = _changes(database, master)

    def everything() -> list[object]:
        tables = ("issuers", "issuer_keys", "api_keys", "signing_keys", "sealed_values", "change_counters")
        with database.reading() as session:
            return [session.execute(text(f"SELECT * FROM {table} ORDER BY 1")).all() for table in tables]

    with database.session() as session:
        session.execute(text("DROP TABLE audit_log"))
    before = everything()
    for action, change in changes.items():
        with pytest.raises(StorageUnavailable):
            change(AuditEntry("ops", action))
        assert everything() == before, action


def test_a_purge_lets_others_write_between_its_chunks(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    border, meanwhile = now() - timedelta(days=1), []
    with database.session() as session:
        old = border - timedelta(seconds=1)
        session.add_all(AuditRow(at=old, actor="tester", action="old", detail={}) for _ in range(2 * purging.CHUNK + 500))

    def write(seconds: float) -> None:
        meanwhile.append(seconds)
        note(database, "meanwhile")  # from a connection of its own; a lock that were still held would be an error

    monkeypatch.setattr(purging.time, "sleep", write)
    assert AuditLog(database).purge(border) == 2 * purging.CHUNK + 500
    assert meanwhile == [purging.PAUSE_SECONDS] * 2
    assert [record.action for record in AuditLog(database).list()] == ["meanwhile"] * 2
