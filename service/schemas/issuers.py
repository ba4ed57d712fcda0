"""`/issuers`: who can mark texts here. Secrets never leave the server."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from service.schemas.common import Answer, IssuerName, Request
from watermark.codebook.keys import MAX_PAYLOAD_BITS


class CreateIssuerRequest(Request):
    """A new issuer with a fresh key."""

    name: IssuerName
    payload_bits: int = Field(0, ge=0, le=MAX_PAYLOAD_BITS, description="Bits of message in each mark. More bits need longer texts.")


class RotateIssuerRequest(Request):
    """A fresh key for an issuer. The old one marks nothing any more and goes on verifying."""

    payload_bits: int | None = Field(None, ge=0, le=MAX_PAYLOAD_BITS, description="Left out: as before.")


class IssuerKeyInfo(Answer):
    version: int
    payload_bits: int
    created: datetime
    retired_at: datetime | None = Field(description="Since when it marks nothing; it still verifies.")


class Issuer(Answer):
    name: str
    payload_bits: int = Field(ge=0, le=MAX_PAYLOAD_BITS, description="Bits of message that its marks carry beside the name.")
    key_version: int = Field(description="Of the key that marks now, or marked last.")
    created: datetime
    retired_at: datetime | None = Field(description="Since when the issuer marks nothing; its texts still verify.")
    keys: list[IssuerKeyInfo]


class IssuersAnswer(Answer):
    issuers: list[Issuer]
