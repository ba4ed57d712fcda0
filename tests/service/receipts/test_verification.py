"""Offline verification: what a receipt proves, and everything that must not pass for one."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from service.receipts.document import Receipt, SignedReceipt, canonical
from service.receipts.signer import ReceiptSigner
from service.receipts.verification import key_id, parse_public_key, verify_receipt
from tests.service.storage.issued import issue
from watermark.errors import InvalidInput

TEXT = "The harbour was quiet — très calme — and 船 lay still. 🚢"


@pytest.fixture
def signed(signer: ReceiptSigner) -> SignedReceipt:
    return issue(signer, TEXT)


@pytest.fixture
def public_key(signer: ReceiptSigner) -> Ed25519PublicKey:
    return parse_public_key(signer.public_keys()[0].public_key)


def test_a_receipt_is_valid_in_any_spelling_of_its_json(signed: SignedReceipt, public_key: Ed25519PublicKey) -> None:
    document = signed.model_dump()
    spellings: list[Any] = [document, signed.model_dump_json(), signed.model_dump_json(indent=2).encode()]
    spellings += [json.dumps(dict(reversed(document.items()))), json.dumps(document, ensure_ascii=True)]
    for spelling in spellings:
        check = verify_receipt(spelling, public_key, TEXT)
        assert (check.valid, check.signature, check.content, check.receipt) == (True, True, True, signed.receipt)
        check = verify_receipt(spelling, public_key)
        assert (check.valid, check.signature, check.content) == (True, True, None) and "No text was given" in check.reason


def test_the_content_is_the_text_to_the_last_character(signed: SignedReceipt, public_key: Ed25519PublicKey) -> None:
    assert signed.receipt.content_length == len(TEXT) and TEXT[:10] not in signed.model_dump_json()
    for other in ("", TEXT + " ", TEXT.lower(), TEXT[:-1], TEXT.replace("è", "e\u0300")):
        check = verify_receipt(signed.model_dump(), public_key, other)
        assert (check.valid, check.signature, check.content) == (False, True, False) and "another text" in check.reason
    with pytest.raises(InvalidInput, match="surrogate"):
        verify_receipt(signed.model_dump(), public_key, "\ud800")


OTHER_VALUES: dict[str, list[Any]] = {
    "version": [2, "1", None],
    "content_sha256": ["0" * 64, "x"],
    "content_length": [1, -1, 55.0, "55", True],
    "issuer": ["rival", None, 7],
    "key_version": [3, None],
    "payload": ["2b", None],
    "watermark": [False, 1, "true"],
    "p_value": ["3.2e-18", None, 3.2e-17],
    "issued_at": ["2026-01-01T00:00:00Z", "yesterday"],
    "detector_url": ["https://elsewhere.example/", None],
    "key_id": ["0" * 16],
}


@pytest.mark.parametrize("field", list(Receipt.model_fields))
def test_no_field_can_be_changed_left_out_or_added(signed: SignedReceipt, public_key: Ed25519PublicKey, field: str) -> None:
    original = signed.model_dump()
    for value in [*OTHER_VALUES.get(field, ["other"]), {}, []]:
        changed = copy.deepcopy(original)
        assert changed["receipt"][field] != value or type(changed["receipt"][field]) is not type(value)
        changed["receipt"][field] = value
        assert_refused(changed, public_key)
        assert_refused(json.dumps(changed), public_key)
    for edit in (lambda r: r.pop(field), lambda r: r.update({f"{field}_": "x"})):
        changed = copy.deepcopy(original)
        edit(changed["receipt"])
        assert_refused(changed, public_key)


def test_signature_and_key_id_cannot_be_changed(signed: SignedReceipt, public_key: Ed25519PublicKey) -> None:
    good = signed.signature
    last = {c: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(c) for c in good}[good[-1]]
    # 64 bytes leave four spare bits in the last of 86 characters: other spellings of the same bytes are refused too
    respelled = good[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ 1]
    assert base64.urlsafe_b64decode(respelled + "==") == base64.urlsafe_b64decode(good + "==")
    flipped = ("B" if good[0] == "A" else "A") + good[1:]
    for signature in (respelled, flipped, good[:-1], good + "==", good + "A", "", "é" * 86, "!" * 86, None, 1):
        assert_refused({**signed.model_dump(), "signature": signature}, public_key)
    assert_refused({**signed.model_dump(), "key_id": "0" * 16}, public_key)
    assert_refused({**signed.model_dump(), "extra": 1}, public_key)


def test_another_key(signed: SignedReceipt, public_key: Ed25519PublicKey) -> None:
    other = Ed25519PrivateKey.generate()
    check = verify_receipt(signed.model_dump(), other.public_key())
    assert not check.valid and key_id(public_key) in check.reason and key_id(other.public_key()) in check.reason
    # an impostor who signs with his own key but names ours
    forged = other.sign(canonical(signed.receipt.model_dump()))
    document = {**signed.model_dump(), "signature": base64.urlsafe_b64encode(forged).rstrip(b"=").decode()}
    assert_refused(document, public_key)


def test_a_receipt_of_a_later_version_is_named_as_such(signed: SignedReceipt, public_key: Ed25519PublicKey) -> None:
    document = signed.model_dump()
    document["receipt"].update(version=2, new_field="x")
    assert "version 2" in verify_receipt(document, public_key).reason


def test_a_field_that_is_there_twice(signed: SignedReceipt, public_key: Ed25519PublicKey) -> None:
    """Readers that take the first one would believe what was never signed."""
    document = signed.model_dump_json().replace('"receipt":{', '"receipt":{"issuer":"rival",', 1)
    assert json.loads(document) == signed.model_dump()  # Python's own reader would not notice
    assert "twice: 'issuer'" in assert_refused(document, public_key)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "null",
        "[]",
        "1",
        '"x"',
        "{}",
        '{"receipt": {}}',
        '{"receipt": null, "signature": "", "key_id": ""}',
        b"\xff\xfe",
        "[" * 50_000,
        "NaN",
        " " * 70_000,
        '{"receipt": {"version": NaN}}',
        '{"a\\ud800": 1}',
        {},
        {"receipt": []},
        {1: 2},
    ],
)
def test_what_is_no_receipt_at_all(document: Any, public_key: Ed25519PublicKey) -> None:
    assert_refused(document, public_key)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))
)
def test_nothing_raises(document: Any) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    assert_refused(document if isinstance(document, str | dict) else json.dumps(document), key)


def assert_refused(document: Any, public_key: Ed25519PublicKey) -> str:
    check = verify_receipt(document, public_key)
    assert (check.valid, check.signature, check.content, check.receipt) == (False, False, None, None) and check.reason
    return check.reason


def test_half_a_character_in_a_receipt(signed: SignedReceipt, public_key: Ed25519PublicKey) -> None:
    document = signed.model_dump()
    document["receipt"]["model"] = "\ud800"
    assert_refused(document, public_key)


def test_a_frozen_receipt_of_this_version() -> None:
    """Signed by the first release; every later one must accept it."""
    document = (Path(__file__).parent / "frozen-receipt-1.json").read_text()
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    check = verify_receipt(document, key, "A text.")
    assert check.valid and check.receipt is not None and check.receipt.issuer == "acmé"


def test_the_canonical_form() -> None:
    """RFC 8785, section 3.2.2.2 and 3.2.3, for the values that receipts hold."""
    values = {"b": 'é€\u000f\n"\\/', "a": None, "c": True, "B": 12}
    assert canonical(values) == '{"B":12,"a":null,"b":"é€\\u000f\\n\\"\\\\/","c":true}'.encode()


def test_spellings_of_a_public_key(public_key: Ed25519PublicKey) -> None:
    raw = public_key.public_bytes_raw().hex()
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for spelling in (raw, raw.upper(), f" {raw}\n", pem, f"\n{pem}\n"):
        assert key_id(parse_public_key(spelling)) == key_id(public_key)
    x25519 = X25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for wrong in ("", "x", raw[:-1], raw + "0", pem[:-30], x25519, "é" * 64):
        with pytest.raises(InvalidInput, match="Ed25519 public key"):
            parse_public_key(wrong)
