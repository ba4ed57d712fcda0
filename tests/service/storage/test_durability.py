"""A process that is killed at any moment loses nothing that it acknowledged, and leaves a database that opens."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from service.storage.api_keys import ApiKeyStore
from service.storage.audit import AuditLog
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.fingerprint import Fingerprinter
from service.storage.issuers import IssuerStore
from service.storage.receipts import ReceiptStore
from service.storage.vault import data_key
from tests.service.storage import writer
from tests.service.storage.audited import note

ROOT = Path(writer.__file__).parents[3]
ROUNDS = 4


def killed_writer(url: str, round_: int, words: int, seconds: float) -> list[list[str]]:
    """What a writer acknowledged until it was killed, so long after so many words."""
    command = [sys.executable, "-m", "tests.service.storage.writer", url, str(round_)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    first = b"".join(process.stdout.readline() for _ in range(words))
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    lines = (first + rest).decode().splitlines(keepends=True)
    return [line.rstrip("\n").split(" ") for line in lines if line.endswith("\n")]


def test_killed_at_random_moments(url: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    acknowledged = [line for round_ in range(ROUNDS) for line in killed_writer(url, round_, rng.randint(6, 60), rng.uniform(0.0, 0.02))]
    if url.startswith("sqlite"):
        with sqlite3.connect(tmp_path / "data" / "countersign.db") as direct:
            assert direct.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert direct.execute("PRAGMA foreign_key_check").fetchall() == []

    database, master = Database(url), MasterKey(writer.MASTER)
    database.upgrade()
    issuers, api_keys = IssuerStore(database, master), ApiKeyStore(database)
    receipts = ReceiptStore(database, Fingerprinter(data_key(database, master)))
    secrets = {(key.name, key.version): key.secret.hex() for key in issuers.verification_keys()}
    actions = {record.subject for record in AuditLog(database).list(100_000)}
    for kind, name, value in acknowledged:
        match kind:
            case "issuer" | "rotated":
                assert secrets[name, 1 if kind == "issuer" else 2] == value
            case "api_key":
                found = api_keys.authenticate(value)
                assert found is not None and found.name == name
            case "receipt":
                kept = receipts.get(name)
                assert kept is not None and kept.signature == value
            case "audit":
                assert name in actions
            case _:
                raise AssertionError(kind)
    assert {kind for kind, _, _ in acknowledged} == {"issuer", "rotated", "api_key", "receipt", "audit"}
    # What was being done when the process died is there whole or not at all.
    assert all(len(record.keys) in (1, 2) for record in issuers.list())
    note(database, "after")
    database.close()
