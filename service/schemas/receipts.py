"""`/signing-keys` and `/audit`. A receipt itself is `service.receipts.document.SignedReceipt`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from service.schemas.common import Answer


class SigningKey(Answer):
    key_id: str = Field(description="First 16 hexadecimal digits of the SHA-256 of the public key.")
    public_key: str = Field(description="Ed25519, 32 bytes in hexadecimal.")
    pem: str
    created: datetime
    retired_at: datetime | None = Field(description="Since when it signs nothing; what it signed stays valid.")


class SigningKeysAnswer(Answer):
    keys: list[SigningKey]


class AuditRecord(Answer):
    """Who changed what. Never a text, never a secret."""

    id: int
    at: datetime
    actor: str = Field(description="`api_key/NAME`, or `local`, `admin_key`, `command line`.")
    action: str = Field(examples=["issuer.rotate"])
    subject: str | None = Field(description="Name of the issuer or key that was changed.")
    request_id: str | None
    detail: dict[str, Any]


class AuditAnswer(Answer):
    records: list[AuditRecord] = Field(description="The newest first.")
