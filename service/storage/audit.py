"""The audit log: who did what to which issuer or key, and in which request. Never a text, never a secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.storage.database import Database
from service.storage.models import AuditRow, now
from service.storage.purging import purge


@dataclass(frozen=True)
class AuditEntry:
    """Who changes something. The stores write it with what they changed, in the same transaction: both are kept, or neither."""

    actor: str
    """The name of an API key, or what else acts: `command line`."""
    action: str
    """Such as `issuer.rotate`."""
    request_id: str | None = None

    def write(self, session: Session, subject: str | None, **detail: Any) -> None:
        """`subject`: the name of what is changed. `detail`: what about it is for the operator, as JSON."""
        session.add(AuditRow(at=now(), actor=self.actor, action=self.action, subject=subject, request_id=self.request_id, detail=detail))


@dataclass(frozen=True)
class AuditRecord:
    id: int
    """Rises with time."""
    at: datetime
    actor: str
    action: str
    subject: str | None
    request_id: str | None
    detail: dict[str, Any]


class AuditLog:
    """Safe in several threads. All methods raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        return purge(self._database, AuditRow, AuditRow.at < older_than)
