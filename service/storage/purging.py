"""Deleting what is old, a little at a time: whoever wants to write meanwhile waits for one chunk at most."""

from __future__ import annotations

import time
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, delete, select

from service.storage.database import Database
from service.storage.models import AuditRow, ReceiptRow

CHUNK = 1000
"""Rows deleted in one transaction."""
PAUSE_SECONDS = 0.05
"""Between two chunks: writers that wait for SQLite's lock try again now and then, and are not queued."""


def purge(database: Database, table: type[AuditRow] | type[ReceiptRow], old: ColumnElement[bool]) -> int:
    """Delete the rows that are `old`; returns how many those were. What was deleted before an error stays so. Raises StorageUnavailable."""
    some = select(table.id).where(old).limit(CHUNK)
    chunk = delete(table).where(table.id.in_(some)).execution_options(synchronize_session=False)
    purged = 0
    while True:
        with database.session() as session:
            deleted = cast(CursorResult[Any], session.execute(chunk)).rowcount
        purged += deleted
        if deleted < CHUNK:
            return purged
        time.sleep(PAUSE_SECONDS)
