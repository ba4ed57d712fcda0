"""The signing keys: one for all processes, sealed in the database, exchanged without losing what they signed."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from service.receipts.document import SignedReceipt
from service.receipts.signer import ReceiptSigner
from service.receipts.verification import parse_public_key, verify_receipt
from service.storage import database as module
from service.storage.audit import AuditEntry
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.errors import StorageUnavailable
from tests.service.storage.issued import issue


def test_what_is_signed(signer: ReceiptSigner) -> None:
    receipt = issue(signer, "Ein Satz.").receipt
    assert (receipt.version, receipt.content_length, receipt.issuer, receipt.key_version, receipt.payload) == (1, 9, "acme", 2, "2a")
    assert receipt.p_value == "3.2e-17" and receipt.watermark is True and receipt.tokens == 120
    issued = datetime.fromisoformat(receipt.issued_at)
    assert issued.tzinfo == UTC and timedelta(seconds=-2) < datetime.now(UTC) - issued < timedelta(minutes=1)
    assert len({issue(signer, "same").receipt.id for _ in range(50)}) == 50
    bare = issue(signer, "", issuer=None, key_version=None, payload=None, watermark=False, p_value=None, tokens=0).receipt
    assert (bare.issuer, bare.p_value, bare.content_length) == (None, None, 0)


def test_every_p_value_can_be_signed(signer: ReceiptSigner) -> None:
    for p in (1.0, 0.5, 1e-3, 5e-324, 1e-300, 0.1 + 0.2, 1):
        written = issue(signer, "x", p_value=p).receipt.p_value
        assert written is not None and float(written) == p


def test_one_key_for_all_processes(database: Database, master: MasterKey) -> None:
    signers = [ReceiptSigner(database, master) for _ in range(6)]
    signed: list[SignedReceipt] = []
    threads = [threading.Thread(target=lambda s=s: signed.append(issue(s, "x"))) for s in signers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(signed) == 6 and len({receipt.key_id for receipt in signed}) == 1
    assert len(signers[0].public_keys()) == 1


def test_rotated_keys_stay_published(signer: ReceiptSigner, database: Database, master: MasterKey) -> None:
    before = issue(signer, "x")
    new = signer.rotate()
    after = issue(signer, "x")
    assert before.key_id != after.key_id == new.key_id == issue(ReceiptSigner(database, master), "x").key_id
    newest, oldest = signer.public_keys()
    assert (newest.key_id, newest.retired_at, oldest.key_id) == (after.key_id, None, before.key_id) and oldest.retired_at is not None
    for receipt, key in ((before, oldest), (after, newest)):
        assert verify_receipt(receipt.model_dump(), parse_public_key(key.pem), "x").valid
        assert verify_receipt(receipt.model_dump(), parse_public_key(key.public_key), "x").valid


def test_a_rotation_that_is_not_kept_changes_nothing(signer: ReceiptSigner, database: Database) -> None:
    before = issue(signer, "x").key_id
    with database.session() as session:
        session.execute(text("DROP TABLE audit_log"))
    with pytest.raises(StorageUnavailable):
        signer.rotate(AuditEntry("tester", "signing_key.rotate"))
    assert issue(signer, "x").key_id == before and [key.key_id for key in signer.public_keys()] == [before]


def test_callers_do_not_wait_for_one_anothers_timeouts(
    signer: ReceiptSigner, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    database.close()
    blocker = sqlite3.connect(tmp_path / "countersign.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        errors = [call.exception() for call in [pool.submit(issue, signer, "x") for _ in range(8)]]
    assert all(isinstance(error, StorageUnavailable) for error in errors) and time.monotonic() - start < 3  # one by one: 4 seconds
    blocker.execute("ROLLBACK")
    assert issue(signer, "x").key_id == signer.public_keys()[0].key_id
    blocker.close()


def test_the_private_key_is_sealed(signer: ReceiptSigner, database: Database, tmp_path: Path) -> None:
    issue(signer, "x")
    key = signer._key
    assert key is not None
    content = b"".join(file.read_bytes() for file in tmp_path.glob("countersign.db*"))
    assert key.public_key().public_bytes_raw() in content and key.private_bytes_raw() not in content
    with database.session() as session:
        assert len(session.execute(text("SELECT private_encrypted FROM signing_keys")).scalar_one()) == 1 + 12 + 32 + 16
