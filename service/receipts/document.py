"""The receipt and its exact bytes.

The signature is Ed25519 (RFC 8032) over the canonical JSON (RFC 8785) of the object under `receipt`, in UTF-8. Receipts hold strings,
whole numbers below 2^53, booleans and null only; of such values the canonical form is plain JSON with sorted keys and no white
space, which every JSON library can write. That is why the p-value is a string.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1
Count = Annotated[int, Field(ge=0, lt=2**53)]
KeyId = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="First 16 hexadecimal digits of the SHA-256 of the public key.")]


class _Document(BaseModel):
    # strict: a number in quotes or a date object would not have the canonical form that was signed
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Receipt(_Document):
    """What is signed."""

    version: Literal[1]
    id: str = Field(pattern="^rcp_[A-Za-z0-9_-]{22}$")
    content_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Of the text in UTF-8.")
    content_length: Count = Field(description="Characters (Unicode code points) of the text.")
    model: str = Field(description="The language model that wrote the text.")
    checkpoint: str = Field(description="Watermark checkpoint.")
    scheme: str = Field(description="How the text was marked, such as `countersign/tournament/2`.")
    issuer: str | None = Field(description="Whose mark the text carries; null when none was asked for.")
    key_version: Count | None = Field(description="Which of the issuer's keys it was marked with.")
    payload: str | None = Field(description="Message in the mark, hexadecimal.")
    watermark: bool = Field(description="Whether the mark could be read from the finished text.")
    p_value: str | None = Field(pattern=r"^[0-9.e+-]{1,32}$", description="Of that self-check, as a decimal number.")
    tokens: Count = Field(description="Tokens written.")
    issued_at: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", description="UTC.")
    detector_url: str | None = Field(description="Where the text can be verified.")
    key_id: KeyId


class SignedReceipt(_Document):
    """A receipt with its signature: what is handed out, kept and verified."""

    receipt: Receipt
    signature: str = Field(pattern="^[A-Za-z0-9_-]{86}$", description="Ed25519, base64url without padding.")
    key_id: KeyId


def canonical(receipt: Mapping[str, Any]) -> bytes:
    """The bytes that are signed. Raises UnicodeEncodeError for half of a surrogate pair, which has none."""
    return json.dumps(receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def content_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
