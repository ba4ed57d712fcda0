"""Offline verification of a receipt: the document, a public key, and the text if it is at hand. No network, no database."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import ValidationError

from service.receipts.document import VERSION, Receipt, SignedReceipt, canonical, content_sha256
from watermark.errors import InvalidInput

MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class ReceiptCheck:
    valid: bool
    """The signature is right, and so is the text where one was given."""
    signature: bool
    content: bool | None
    """Whether the text is the one that the receipt is about; None when no text was given or the signature is wrong."""
    reason: str
    """In words, for either outcome."""
    receipt: Receipt | None
    """Only with a right signature: nothing else of a document can be believed."""


def verify_receipt(document: Mapping[str, Any] | str | bytes, public_key: Ed25519PublicKey, text: str | None = None) -> ReceiptCheck:
    """Check a signed receipt, as JSON or as the object read from it.

    Whatever is in the document, the answer is a `ReceiptCheck`. Raises InvalidInput only for a `text` that has no UTF-8 form.
    """
    raw, problem = _read(document)
    if problem:
        return _refused(problem)
    try:
        signed = SignedReceipt.model_validate(raw)
    except ValidationError as error:
        return _refused(_first_problem(raw, error))
    if signed.key_id != signed.receipt.key_id:
        return _refused("It names two different signing keys.")
    if signed.key_id != key_id(public_key):
        return _refused(f"It was signed with key {signed.key_id}, and the public key given is {key_id(public_key)}.")
    signature = base64.urlsafe_b64decode(signed.signature + "==")
    if base64.urlsafe_b64encode(signature).rstrip(b"=").decode() != signed.signature:
        return _refused("The signature is not in its canonical base64url form.")
    try:
        # The bytes of what was received, not of what was understood: no difference between the two can slip through.
        public_key.verify(signature, canonical(raw["receipt"]))
    except (InvalidSignature, UnicodeEncodeError):
        return _refused("The signature does not match: the receipt was changed, or never signed with this key.")
    receipt = signed.receipt
    if text is None:
        return ReceiptCheck(True, True, None, "The signature is right. No text was given to hold against it.", receipt)
    try:
        same = content_sha256(text) == receipt.content_sha256 and len(text) == receipt.content_length
    except UnicodeEncodeError:
        raise InvalidInput("The text holds half of a surrogate pair, which is no character.") from None
    words = "The signature is right and the text is the one it was given for." if same else _other_text(receipt, text)
    return ReceiptCheck(same, True, same, words, receipt)


def key_id(public_key: Ed25519PublicKey) -> str:
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:16]


def parse_public_key(text: str) -> Ed25519PublicKey:
    """From PEM, or the 32 bytes in hexadecimal. Raises InvalidInput."""
    text = text.strip()
    try:
        if re.fullmatch("[0-9a-fA-F]{64}", text):
            return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
        key = load_pem_public_key(text.encode())
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput("This is no Ed25519 public key. It should be 64 hexadecimal digits, or a PEM block (BEGIN PUBLIC KEY).")
    return key


def _read(document: Mapping[str, Any] | str | bytes) -> tuple[Any, str | None]:
    """The document as plain values, and what is wrong with it."""
    if isinstance(document, Mapping):
        return document, None
    if len(document) > MAX_BYTES:
        return None, f"It is longer than any receipt ({MAX_BYTES:,} bytes)."
    try:
        return json.loads(document, object_pairs_hook=_unique), None
    except _NamedTwice as error:
        return None, f"A field is there twice: {error}."
    except (ValueError, RecursionError):  # also bytes that are no UTF-8
        return None, "It is not JSON."


class _NamedTwice(Exception):
    """Readers disagree on which of two fields of one name counts."""


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _NamedTwice(next(repr(name[:40]) for name in names if names.count(name) > 1))
    return fields


def _first_problem(raw: Any, error: ValidationError) -> str:
    receipt = raw.get("receipt") if isinstance(raw, Mapping) else None
    version = receipt.get("version") if isinstance(receipt, Mapping) else None
    if type(version) is int and version != VERSION:
        return f"It is of version {version}; this release knows version {VERSION}. Use a newer release."
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"It is no signed receipt: {'.'.join(str(part)[:40] for part in first['loc']) or 'document'}: {first['msg']}."


def _other_text(receipt: Receipt, text: str) -> str:
    return (
        f"The signature is right, but for another text: it is about {receipt.content_length:,} characters with another SHA-256, "
        f"and the text given has {len(text):,}."
    )


def _refused(reason: str) -> ReceiptCheck:
    return ReceiptCheck(False, False, None, reason, None)
