"""Stored receipts: found by id, by content, and by fingerprint; kept for as long as they should be; never a text."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text as sql

from service.receipts.signer import ReceiptSigner
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.fingerprint import Fingerprinter
from service.storage.models import now
from service.storage.receipts import ReceiptStore
from service.storage.vault import data_key
from tests.service.storage.issued import issue, prose


@pytest.fixture
def signer(database: Database, master: MasterKey) -> ReceiptSigner:
    data_key(database, master)
    return ReceiptSigner(database, master)


@pytest.fixture
def store(database: Database, master: MasterKey) -> ReceiptStore:
    return ReceiptStore(database, Fingerprinter(data_key(database, master)))


def test_kept_as_issued(store: ReceiptStore, signer: ReceiptSigner) -> None:
    receipt, bare = issue(signer, prose(1)), issue(signer, "", issuer=None, key_version=None, payload=None, p_value=None)
    store.add([(receipt, prose(1)), (bare, "")], "request-1")
    assert store.get(receipt.receipt.id) == receipt and store.get(bare.receipt.id) == bare
    assert store.get("rcp_unknown") is None


def test_the_columns_say_what_the_document_says(store: ReceiptStore, signer: ReceiptSigner, database: Database) -> None:
    text = prose(1)
    store.add([(issue(signer, text), text)], "request-1")
    with database.reading() as session:
        row = session.execute(sql("SELECT * FROM receipts")).mappings().one()
    expected = {"issuer": "acme", "key_version": 2, "tokens": 120, "request_id": "request-1", "content_length": len(text)}
    assert {name: row[name] for name in expected} == expected and row["payload_present"]
    assert "word" not in repr({k: v for k, v in row.items() if k != "document"}) + str(row["document"])


def test_found_by_exact_content_first(store: ReceiptStore, signer: ReceiptSigner) -> None:
    text, edited = prose(1), prose(1).replace("word", "Word", 1) + " and more"
    issued = [(issue(signer, t), t) for t in (text, edited, text, prose(2))]
    store.add(issued)
    found = store.find(text)
    assert [match.exact for match in found] == [True, True, False]
    assert {match.document.receipt.id for match in found[:2]} == {issued[0][0].receipt.id, issued[2][0].receipt.id}
    assert found[2].document == issued[1][0] and 0.9 < found[2].similarity <= 1.0
    assert len(store.find(text, limit=1)) == 1 and len(store.find(text, limit=2)) == 2


def test_edits_of_a_few_words_in_200_are_found_and_other_texts_not(store: ReceiptStore, signer: ReceiptSigner) -> None:
    texts = [prose(seed) for seed in range(30)]
    issued = [(issue(signer, text), text) for text in texts]
    store.add(issued)
    for number, text in enumerate(texts):
        words = text.split()
        for place in (20, 90, 91, 150, 199):
            words[place] = f"other{place}"
        [match] = store.find(" ".join(words))
        assert match.document == issued[number][0] and not match.exact and match.similarity > 0.6
    assert store.find(prose(99)) == []


def test_short_texts_are_found_exactly_only(store: ReceiptStore, signer: ReceiptSigner) -> None:
    store.add([(issue(signer, "Thank you very much."), "Thank you very much.")])
    assert len(store.find("Thank you very much.")) == 1 and store.find("Thank you very much!") == []


def test_all_or_none_are_kept(store: ReceiptStore, signer: ReceiptSigner) -> None:
    receipt = issue(signer, "text")
    with pytest.raises(Exception, match="UNIQUE|unique|duplicate"):
        store.add([(issue(signer, "first"), "first"), (receipt, "text"), (receipt, "text")])
    assert store.find("first") == store.find("text") == []


def test_retention(store: ReceiptStore, signer: ReceiptSigner) -> None:
    receipt = issue(signer, prose(1))
    store.add([(receipt, prose(1))])
    assert store.purge(now() - timedelta(days=1)) == 0 and store.get(receipt.receipt.id) is not None
    assert store.purge(now() + timedelta(days=1)) == 1 and store.get(receipt.receipt.id) is None
    assert store.find(prose(1)) == []


def test_no_text_and_no_secret_is_in_the_files(sqlite: Database, master: MasterKey, tmp_path: Path) -> None:
    text = "A planted sentence about lighthouses that nobody should ever find in here. " * 5
    store, signer = ReceiptStore(sqlite, Fingerprinter(data_key(sqlite, master))), ReceiptSigner(sqlite, master)
    store.add([(issue(signer, text), text)])
    assert store.find(text)[0].exact
    content = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir())
    assert b"gemma3-270m" in content  # the right files were read
    assert b"planted" not in content and b"lighthouse" not in content and data_key(sqlite, master) not in content
