"""The audit log: who did what to which issuer or key, and in which request. Never a text, never a secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from service.storage.database import Database
from service.storage.models import AuditRow, now


@dataclass(frozen=True)
class AuditRecord:
    id: int
    """Rises with time."""
    at: datetime
    actor: str
    """The name of an API key, or what else acted: `command line`."""
    action: str
    """Such as `issuer.rotate`."""
    subject: str | None
    request_id: str | None
    detail: dict[str, Any]


class AuditLog:
    """Safe in several threads. All methods raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self, actor: str, action: str, subject: str | None = None, request_id: str | None = None, detail: dict[str, Any] | None = None
    ) -> None:
        row = AuditRow(at=now(), actor=actor, action=action, subject=subject, request_id=request_id, detail=detail or {})
        with self._database.session() as session:
            session.add(row)

    def list(self, limit: int = 100, before: int | None = None) -> tuple[AuditRecord, ...]:
        """The newest first; `before` is the id of the last record of the page before."""
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.id < before)
        with self._database.reading() as session:
            return tuple(
                AuditRecord(row.id, row.at, row.actor, row.action, row.subject, row.request_id, row.detail)
                for row in session.scalars(query)
            )

    def purge(self, older_than: datetime) -> int:
        """Delete what is older; returns how many records that were."""
        with self._database.session() as session:
            return len(session.scalars(delete(AuditRow).where(AuditRow.at < older_than).returning(AuditRow.id)).all())
