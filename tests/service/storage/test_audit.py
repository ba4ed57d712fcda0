"""The audit log: newest first, a page at a time, and only as long as it should be kept."""

from __future__ import annotations

from datetime import timedelta

from service.storage.audit import AuditLog
from service.storage.database import Database
from service.storage.models import now


def test_recorded_and_listed(database: Database) -> None:
    log = AuditLog(database)
    assert log.list() == ()
    log.record("ops", "issuer.rotate", "acme", "request-1", {"key_version": 2})
    log.record("command line", "database.reencrypt")
    last, first = log.list()
    assert (first.actor, first.action, first.subject) == ("ops", "issuer.rotate", "acme")
    assert (first.request_id, first.detail) == ("request-1", {"key_version": 2})
    assert (last.subject, last.request_id, last.detail) == (None, None, {}) and last.id > first.id
    assert timedelta(seconds=-2) < now() - last.at < timedelta(minutes=1)


def test_pages(database: Database) -> None:
    log = AuditLog(database)
    for number in range(7):
        log.record("ops", f"action-{number}")
    pages, before = [], None
    while page := log.list(3, before):
        pages.append([record.action for record in page])
        before = page[-1].id
    assert pages == [["action-6", "action-5", "action-4"], ["action-3", "action-2", "action-1"], ["action-0"]]


def test_retention(database: Database) -> None:
    log = AuditLog(database)
    log.record("ops", "old")
    border = now()
    log.record("ops", "new")
    assert log.purge(border) == 1 and [record.action for record in log.list()] == ["new"]
    assert log.purge(border) == 0
