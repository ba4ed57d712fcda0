"""What a service needs in its storage before it may serve: an issuer to mark with, and API keys where it asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.api.drafts import DEFAULT_ISSUER
from service.settings import Settings
from service.storage.audit import AuditEntry
from service.storage.errors import IssuerExists
from service.storage.open import Storage
from watermark.calibration.key_check import KeyCheck
from watermark.codebook.keys import KeyRing
from watermark.errors import InvalidInput
from watermark.folders import key_folder

ACTOR = "first start"


@dataclass(frozen=True)
class FirstIssuers:
    """What an empty storage was given."""

    created: str | None
    imported: tuple[str, ...]
    check: KeyCheck

    @property
    def words(self) -> str:
        if self.created:
            return f"Created the issuer {self.created!r} ({self.check.words})."
        return f"Imported the issuers of your key ring: {', '.join(self.imported)}."


def require_api_keys(settings: Settings, storage: Storage) -> None:
    """Raises InvalidInput where requests need an API key and nobody could have one."""
    if settings.authenticated and settings.admin_key is None and not storage.api_keys.any_active():
        raise InvalidInput(
            "Requests need an API key here, and there is none. Create one first with: countersign api-keys create NAME --scope admin "
            "(or set COUNTERSIGN_ADMIN_KEY)."
        )


def first_issuers(storage: Storage, checkpoint: Path) -> FirstIssuers | None:
    """Give a storage without issuers the keys of the command line's key ring, or else a fresh, checked one. None if it has issuers.

    Raises KeyRingError, CheckpointError and StorageUnavailable.
    """
    if storage.issuers.list():
        return None
    check = KeyCheck.of(checkpoint)  # the model is still to be loaded, and the address is announced before that
    if keys := KeyRing(key_folder()).all():
        storage.issuers.import_keys(keys, AuditEntry(ACTOR, "issuer.import"))
        return FirstIssuers(None, tuple(key.name for key in keys), check)
    try:
        storage.issuers.create(DEFAULT_ISSUER, 0, check.sound, AuditEntry(ACTOR, "issuer.create"))
    except IssuerExists:  # another process with the same database was a moment faster
        return None
    return FirstIssuers(DEFAULT_ISSUER, (), check)
