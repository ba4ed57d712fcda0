"""Audit records for tests, without the change that they would tell of."""

from __future__ import annotations

from typing import Any

from service.storage.audit import AuditEntry
from service.storage.database import Database


def note(database: Database, action: str, subject: str | None = None, request_id: str | None = None, **detail: Any) -> None:
    with database.session() as session:
        AuditEntry("tester", action, request_id).write(session, subject, **detail)
