from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.receipts.signer import ReceiptSigner
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.vault import data_key


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/countersign.db")
    opened.upgrade()
    yield opened
    opened.close()


@pytest.fixture
def master(database: Database) -> MasterKey:
    key = MasterKey(b"master".ljust(32, b"."))
    data_key(database, key)
    return key


@pytest.fixture
def signer(database: Database, master: MasterKey) -> ReceiptSigner:
    return ReceiptSigner(database, master)
