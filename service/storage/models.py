"""The tables. A change here needs a migration in `migrations/versions`; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC, on databases with time zones and without (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise TypeError("A stored time needs a time zone.")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))


def now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
        bytes: LargeBinary,
    }


class SealedValue(Base):
    """Secrets of the database as a whole, sealed by the master key; that they open proves that it is the right one."""

    __tablename__ = "sealed_values"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    sealed: Mapped[bytes]


class ChangeCounter(Base):
    """Rises with every change of what processes cache, in the same transaction."""

    __tablename__ = "change_counters"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int]


class Issuer(Base):
    __tablename__ = "issuers"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    created: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class IssuerKeyRow(Base):
    """One version of an issuer's key. `retired_at`: since when it marks nothing any more; it is verified with for ever."""

    __tablename__ = "issuer_keys"
    __table_args__ = (UniqueConstraint("issuer", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    issuer: Mapped[str] = mapped_column(ForeignKey("issuers.name"))
    version: Mapped[int]
    payload_bits: Mapped[int]
    secret_encrypted: Mapped[bytes]
    created: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class ApiKeyRow(Base):
    """`prefix` is the public beginning of the token, by which it is found; `digest` is the SHA-256 of the whole."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    prefix: Mapped[str] = mapped_column(String(16), unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    scopes: Mapped[list[str]]
    created: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ReceiptRow(Base):
    """A signed receipt beside what it is found by: the content's hash, and a fingerprint for edited copies (`fingerprint.py`)."""

    __tablename__ = "receipts"
    __table_args__ = tuple(Index(f"ix_receipts_band_{i}", f"band_{i}") for i in range(4))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)
    issuer: Mapped[str | None] = mapped_column(String(63))
    key_version: Mapped[int | None]
    payload_present: Mapped[bool]
    content_sha256: Mapped[str] = mapped_column(String(64), index=True)
    content_length: Mapped[int]
    model: Mapped[str]
    checkpoint: Mapped[str]
    tokens: Mapped[int]
    request_id: Mapped[str | None] = mapped_column(String(128))
    document: Mapped[dict[str, Any]]
    fingerprint: Mapped[bytes | None]
    band_0: Mapped[int | None]
    band_1: Mapped[int | None]
    band_2: Mapped[int | None]
    band_3: Mapped[int | None]


class SigningKeyRow(Base):
    """Ed25519 keys of receipts, by key id; the newest that is not retired signs."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary(32))
    private_encrypted: Mapped[bytes]
    created: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class AuditRow(Base):
    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(128))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str | None] = mapped_column(String(128))
    request_id: Mapped[str | None] = mapped_column(String(128))
    detail: Mapped[dict[str, Any]]
