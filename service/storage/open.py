"""All of the storage, from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from service.receipts.signer import ReceiptSigner
from service.storage.api_keys import ApiKeyStore
from service.storage.audit import AuditLog
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.errors import MasterKeyError
from service.storage.fingerprint import Fingerprinter
from service.storage.issuers import IssuerStore
from service.storage.receipts import ReceiptStore
from service.storage.vault import data_key, is_encrypted
from watermark.folders import data_folder


class StorageSettings(Protocol):
    """What the storage needs of `service.settings.Settings`."""

    @property
    def database_url(self) -> SecretStr | None: ...
    @property
    def master_key(self) -> SecretStr | None: ...
    @property
    def master_key_file(self) -> Path | None: ...


@dataclass(frozen=True)
class Storage:
    database: Database
    issuers: IssuerStore
    api_keys: ApiKeyStore
    receipts: ReceiptStore
    audit: AuditLog
    signer: ReceiptSigner

    def close(self) -> None:
        self.database.close()


def open_storage(settings: StorageSettings) -> Storage:
    """The stores on an upgraded database, with a master key that is known to be the right one.

    Raises InvalidInput (URL), StorageUnavailable, StorageError, and MasterKeyError (missing, malformed, or of another database).
    """
    database = open_database(settings)
    try:
        master = master_key(settings, database)
        fingerprinter = Fingerprinter(data_key(database, master))
    except BaseException:
        database.close()
        raise
    return Storage(
        database,
        IssuerStore(database, master),
        ApiKeyStore(database),
        ReceiptStore(database, fingerprinter),
        AuditLog(database),
        ReceiptSigner(database, master),
    )


def open_database(settings: StorageSettings) -> Database:
    """The database alone, upgraded. Raises InvalidInput, StorageUnavailable and StorageError."""
    url = settings.database_url
    database = Database(f"sqlite:///{data_folder() / 'countersign.db'}" if url is None else url.get_secret_value())
    database.upgrade()
    return database


def master_key(settings: StorageSettings, database: Database) -> MasterKey:
    """The one that the settings name. Its file is made at the first start, but never for a database that has a key already.

    Raises MasterKeyError and StorageUnavailable.
    """
    if settings.master_key is not None:
        return MasterKey.parse(settings.master_key.get_secret_value())
    path = settings.master_key_file or data_folder() / "master.key"
    if path.exists():
        return MasterKey.from_file(path)
    if is_encrypted(database):
        raise MasterKeyError(
            f"There is no master key file {path}, and the database is encrypted with one. Restore the file from a backup, or say where "
            "the key is with COUNTERSIGN_MASTER_KEY_FILE or COUNTERSIGN_MASTER_KEY. Without it the issuers' secrets cannot be read."
        )
    return MasterKey.create_file(path)
