"""The master key meets the database: the first start, every later one, and the exchange of the key.

Each database has one random *data key*, sealed by the master key. That it opens proves that the master key is the right one, and it
keys the fingerprints of texts, which so survive an exchange of the master key.
"""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.storage.audit import AuditEntry
from service.storage.database import Database
from service.storage.encryption import KEY_BYTES, MasterKey
from service.storage.errors import MasterKeyError
from service.storage.models import IssuerKeyRow, SealedValue, SigningKeyRow

DATA_KEY = "data_key"


def key_identity(issuer: str, version: int) -> str:
    return f"issuer_key/{issuer}/{version}"


def signing_identity(key_id: str) -> str:
    return f"signing_key/{key_id}"


def is_encrypted(database: Database) -> bool:
    """Whether a master key has been used with this database. Raises StorageUnavailable."""
    with database.reading() as session:
        return session.get(SealedValue, DATA_KEY) is not None


def data_key(database: Database, master: MasterKey) -> bytes:
    """The database's data key, drawn at the first call. Raises MasterKeyError for a wrong master key, and StorageUnavailable."""
    with database.reading() as session:
        row = session.get(SealedValue, DATA_KEY)
    if row is None:
        try:
            with database.session() as session:
                session.add(SealedValue(name=DATA_KEY, sealed=master.seal(secrets.token_bytes(KEY_BYTES), DATA_KEY)))
        except IntegrityError:
            pass  # another process was quicker; its key must open with this master key too
        with database.reading() as session:
            row = session.get_one(SealedValue, DATA_KEY)
    return master.open(row.sealed, DATA_KEY)


def check_master(session: Session, master: MasterKey) -> None:
    """First in every transaction that seals: whether this is the database's master key still, and until the transaction ends.

    What was sealed with the key before an exchange could never be opened again. Raises MasterKeyError.
    """
    row = session.scalars(select(SealedValue).where(SealedValue.name == DATA_KEY).with_for_update()).one()
    try:
        master.open(row.sealed, DATA_KEY)
    except MasterKeyError:
        raise MasterKeyError(
            "The database was encrypted with another master key since this process started, so nothing is written with the old one. "
            "Restart it with the new key (COUNTERSIGN_MASTER_KEY or COUNTERSIGN_MASTER_KEY_FILE)."
        ) from None


def reencrypt(database: Database, old: MasterKey, new: MasterKey, audit: AuditEntry | None = None) -> int:
    """Seal everything with the new master key, all or nothing; returns the number of values.

    Stop the service first: a process with the old key opens and seals nothing afterwards. Raises MasterKeyError and StorageUnavailable.
    """

    def resealed(value: bytes, identity: str) -> bytes:
        return new.seal(old.open(value, identity), identity)

    with database.session() as session:
        values = session.scalars(select(SealedValue).with_for_update()).all()
        for value in values:
            value.sealed = resealed(value.sealed, value.name)
        keys = session.scalars(select(IssuerKeyRow).with_for_update()).all()
        for key in keys:
            key.secret_encrypted = resealed(key.secret_encrypted, key_identity(key.issuer, key.version))
        signing = session.scalars(select(SigningKeyRow).with_for_update()).all()
        for row in signing:
            row.private_encrypted = resealed(row.private_encrypted, signing_identity(row.id))
        count = len(values) + len(keys) + len(signing)
        if audit:
            audit.write(session, None, values=count)
        return count
