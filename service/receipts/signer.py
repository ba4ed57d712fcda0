"""The service's signing keys, and receipts signed with the newest of them."""

from __future__ import annotations

import base64
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.receipts.document import VERSION, Receipt, SignedReceipt, canonical, content_sha256
from service.receipts.verification import key_id
from service.storage.audit import AuditEntry
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.models import SigningKeyRow, now
from service.storage.vault import check_master, signing_identity


@dataclass(frozen=True)
class PublicKey:
    """What is published, so that receipts can be verified; that of a retired key for as long as its receipts matter."""

    key_id: str
    public_key: str
    """64 hexadecimal digits."""
    pem: str
    created: datetime
    retired_at: datetime | None
    """Since when it signs nothing."""


class ReceiptSigner:
    """Signs with the newest key that is not retired; the first is drawn when there is none. Safe in several threads.

    The key is read once: after `rotate`, other processes sign with the old one until they start again, which stays verifiable.
    """

    def __init__(self, database: Database, master: MasterKey) -> None:
        self._database, self._master = database, master
        self._rotating, self._exchanging = threading.Lock(), threading.Lock()
        self._key: Ed25519PrivateKey | None = None

    def sign(
        self,
        text: str,
        *,
        model: str,
        checkpoint: str,
        scheme: str,
        issuer: str | None,
        key_version: int | None,
        payload: str | None,
        watermark: bool,
        p_value: float | None,
        tokens: int,
        detector_url: str | None,
    ) -> SignedReceipt:
        """A receipt for `text`, which stays out of it. Raises StorageUnavailable and MasterKeyError, both at the first call only."""
        key = self._signing_key()
        identity = key_id(key.public_key())
        receipt = Receipt(
            version=VERSION,
            id=f"rcp_{secrets.token_urlsafe(16)}",  # not to be guessed: whoever knows it can fetch the receipt
            content_sha256=content_sha256(text),
            content_length=len(text),
            model=model,
            checkpoint=checkpoint,
            scheme=scheme,
            issuer=issuer,
            key_version=key_version,
            payload=payload,
            watermark=watermark,
            p_value=None if p_value is None else repr(float(p_value)),
            tokens=tokens,
            issued_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            detector_url=detector_url,
            key_id=identity,
        )
        signature = key.sign(canonical(receipt.model_dump()))
        return SignedReceipt(receipt=receipt, signature=_base64url(signature), key_id=identity)

    def public_keys(self) -> tuple[PublicKey, ...]:
        """The newest first; there is at least one. Raises StorageUnavailable and MasterKeyError."""
        self._signing_key()
        with self._database.reading() as session:
            rows = session.scalars(select(SigningKeyRow).order_by(SigningKeyRow.created.desc(), SigningKeyRow.id)).all()
        return tuple(PublicKey(row.id, row.public_key.hex(), _pem(row.public_key), row.created, row.retired_at) for row in rows)

    def rotate(self, audit: AuditEntry | None = None) -> PublicKey:
        """Sign with a fresh key from now on. Receipts of the old ones stay valid. Raises StorageUnavailable and MasterKeyError."""
        with self._rotating:
            with self._database.session() as session:
                for row in self._active(session):
                    row.retired_at = now()
                key = self._draw(session)
                if audit:
                    audit.write(session, key_id(key.public_key()))
            with self._exchanging:
                self._key = key
        return self.public_keys()[0]

    def _signing_key(self) -> Ed25519PrivateKey:
        if self._key is not None:
            return self._key
        # No lock is held here: with the database away, threads would wait for one another's timeouts one by one.
        with self._database.session() as session:
            active = self._active(session)
            found = self._opened(active[0]) if active else self._draw(session)
        with self._exchanging:
            self._key = self._key or found  # `rotate` may have been quicker
            return self._key

    def _active(self, session: Session) -> list[SigningKeyRow]:
        """Keys that may sign, the newest first. Raises MasterKeyError.

        The check's row lock lets only one process at a time find that there is none.
        """
        check_master(session, self._master)
        query = select(SigningKeyRow).where(SigningKeyRow.retired_at.is_(None)).order_by(SigningKeyRow.created.desc(), SigningKeyRow.id)
        return list(session.scalars(query))

    def _draw(self, session: Session) -> Ed25519PrivateKey:
        key = Ed25519PrivateKey.generate()
        identity = key_id(key.public_key())
        session.add(
            SigningKeyRow(
                id=identity,
                public_key=key.public_key().public_bytes_raw(),
                private_encrypted=self._master.seal(key.private_bytes_raw(), signing_identity(identity)),
                created=now(),
            )
        )
        return key

    def _opened(self, row: SigningKeyRow) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._master.open(row.private_encrypted, signing_identity(row.id)))


def _pem(public_key: bytes) -> str:
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
