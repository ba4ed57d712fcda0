"""API keys. The token is shown once, when it is made; the database has its SHA-256 only.

A token is 32 random bytes, so a fast hash is enough: there is nothing to guess, as there would be with a password.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast, get_args

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from service.storage.audit import AuditEntry
from service.storage.database import Database
from service.storage.errors import ApiKeyExists, UnknownApiKey
from service.storage.models import ApiKeyRow, now
from watermark.codebook.keys import NAME_PATTERN
from watermark.errors import InvalidInput

Scope = Literal["generate", "verify", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
TOKEN = re.compile(r"(csk_[A-Za-z0-9]{8})_[A-Za-z0-9_-]{43}")
CACHE_SECONDS = 2.0
"""How long an accepted token is accepted again without a look at the database, and so how long a revoked one may live on."""
NO_DIGEST = bytes(32)
"""Compared with where no key was found, so that an unknown prefix takes no less time than a wrong token."""


@dataclass(frozen=True)
class ApiKeyRecord:
    name: str
    prefix: str
    """The beginning of the token; no secret."""
    scopes: tuple[Scope, ...]
    created: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def active(self) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now() < self.expires_at)


class ApiKeyStore:
    """Safe in several threads. All methods raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._accepted: dict[bytes, tuple[ApiKeyRecord, float]] = {}
        """Digest of a token → its key, and until when that is believed (time.monotonic())."""

    def create(
        self, name: str, scopes: Iterable[str], expires_at: datetime | None = None, audit: AuditEntry | None = None
    ) -> tuple[ApiKeyRecord, str]:
        """A new key and its token, which cannot be had again. Raises InvalidInput (name, scopes, expiry) and ApiKeyExists."""
        if not NAME_PATTERN.fullmatch(name):
            raise InvalidInput(
                f"{name!r} is no name for an API key: 1 to 63 lower-case letters, digits, '.', '_' or '-', the first a letter or a digit."
            )
        wanted = tuple(dict.fromkeys(scopes))
        if not wanted or not set(wanted) <= set(SCOPES):
            raise InvalidInput(f"An API key needs one or more of the scopes {', '.join(SCOPES)}; got {', '.join(wanted) or 'none'}.")
        if expires_at is not None and expires_at <= now():
            raise InvalidInput("The API key would have expired already. Give a time to come.")
        prefix = "csk_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(8))
        token = f"{prefix}_{secrets.token_urlsafe(32)}"
        row = ApiKeyRow(
            name=name, prefix=prefix, digest=_digest(token), scopes=sorted(wanted, key=SCOPES.index), created=now(), expires_at=expires_at
        )
        try:
            with self._database.session() as session:
                session.add(row)
                if audit:
                    audit.write(session, name, scopes=row.scopes)
        except IntegrityError:
            raise ApiKeyExists(f"An API key named {name!r} exists already, perhaps a revoked one. Choose another name.") from None
        return _record(row), token

    def authenticate(self, token: str) -> ApiKeyRecord | None:
        """The active key that a token belongs to. A key that was revoked stops within CACHE_SECONDS, in this process at once."""
        form = TOKEN.fullmatch(token)
        if form is None:
            return None
        digest = _digest(token)
        record, until = self._accepted.get(digest, (None, 0.0))
        if record is None or time.monotonic() >= until:
            with self._database.reading() as session:
                row = session.scalars(select(ApiKeyRow).where(ApiKeyRow.prefix == form[1])).one_or_none()
            right = secrets.compare_digest(digest, NO_DIGEST if row is None else row.digest)
            if row is None or not right:
                return None
            record = _record(row)
            with self._lock:
                self._accepted[digest] = record, time.monotonic() + CACHE_SECONDS
        return record if record.active else None

    def list(self) -> tuple[ApiKeyRecord, ...]:
        """In the order of their creation, revoked and expired ones too."""
        with self._database.reading() as session:
            return tuple(_record(row) for row in session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.id)))

    def revoke(self, name: str, audit: AuditEntry | None = None) -> ApiKeyRecord:
        """It cannot be undone; doing it again changes nothing. Raises UnknownApiKey."""
        with self._database.session() as session:
            row = session.scalars(select(ApiKeyRow).where(ApiKeyRow.name == name).with_for_update()).one_or_none()
            if row is None:
                raise UnknownApiKey(f"There is no API key named {name!r}.")
            row.revoked_at = row.revoked_at or now()
            if audit:
                audit.write(session, name)
        with self._lock:
            self._accepted.clear()
        return _record(row)

    def any_active(self) -> bool:
        """Whether anybody could authenticate."""
        return any(record.active for record in self.list())


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _record(row: ApiKeyRow) -> ApiKeyRecord:
    return ApiKeyRecord(
        row.name, row.prefix, tuple(cast(Scope, scope) for scope in row.scopes), row.created, row.expires_at, row.revoked_at
    )
