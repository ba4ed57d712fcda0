"""Encryption at rest: what a sealed value protects, where the master key comes from, and how it is exchanged."""

from __future__ import annotations

import base64
import os
import pickle
import stat
import threading
import traceback
from pathlib import Path

import pytest
from sqlalchemy import text

from service.receipts.signer import ReceiptSigner
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.errors import MasterKeyError
from service.storage.issuers import IssuerStore
from service.storage.vault import data_key, is_encrypted, reencrypt
from watermark.codebook.keys import IssuerKey

KEY = bytes(range(1, 33))
OTHER = MasterKey(b"other".ljust(32, b"."))


def test_sealed_and_opened(master: MasterKey) -> None:
    sealed = master.seal(b"a secret", "row/1")
    assert master.open(sealed, "row/1") == b"a secret" and b"a secret" not in sealed
    assert master.seal(b"a secret", "row/1") != sealed  # a nonce of its own
    assert master.open(master.seal(b"", "row/1"), "row/1") == b""


def test_what_was_changed_moved_or_sealed_by_another_key_does_not_open(master: MasterKey) -> None:
    sealed = master.seal(b"a secret", "issuer_key/acme/1")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(MasterKeyError):
            master.open(bytes(changed), "issuer_key/acme/1")
    for cut in (b"", sealed[:1], sealed[:13], sealed[:-1], sealed + b"x"):
        with pytest.raises(MasterKeyError):
            master.open(cut, "issuer_key/acme/1")
    with pytest.raises(MasterKeyError, match="does not open 'issuer_key/acme/2'"):
        master.open(sealed, "issuer_key/acme/2")
    with pytest.raises(MasterKeyError, match="not the key that this database was encrypted with"):
        OTHER.open(sealed, "issuer_key/acme/1")


@pytest.mark.parametrize(
    "spelling", [KEY.hex(), KEY.hex().upper(), base64.urlsafe_b64encode(KEY).decode(), f"  {base64.urlsafe_b64encode(KEY).decode()[:43]}\n"]
)
def test_spellings_of_one_key(spelling: str) -> None:
    assert MasterKey.parse(spelling).open(MasterKey(KEY).seal(b"x", "i"), "i") == b"x"


@pytest.mark.parametrize("spelling", ["", "planted", KEY.hex()[:-1], KEY.hex() + "00", "planted!" * 8, "é" * 43, "z" * 64])
def test_what_is_no_key_is_not_quoted(spelling: str) -> None:
    with pytest.raises(MasterKeyError, match="32 bytes in hexadecimal or base64url") as caught:
        MasterKey.parse(spelling)
    assert "planted" not in "".join(traceback.format_exception(caught.value))


def test_a_master_key_shows_nothing(master: MasterKey) -> None:
    assert "master" not in repr(master).replace("MasterKey", "") and "master" not in str(vars(master)).replace("MasterKey", "")
    with pytest.raises(TypeError):
        pickle.dumps(master)


def test_the_file_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "master.key"
    first, again = MasterKey.create_file(file), MasterKey.create_file(file)
    assert again.open(first.seal(b"x", "i"), "i") == b"x"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and [path.name for path in file.parent.iterdir()] == ["master.key"]
    with pytest.raises(MasterKeyError):
        MasterKey.create_file(tmp_path / "other.key").open(first.seal(b"x", "i"), "i")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    with pytest.raises(MasterKeyError, match="There is no master key file .*master.key"):
        MasterKey.from_file(file)
    file.write_text(KEY.hex())
    file.chmod(0o640)
    with pytest.raises(MasterKeyError, match="open to other users"):
        MasterKey.from_file(file)
    file.chmod(0o600)
    MasterKey.from_file(file)
    file.write_bytes(b"\xff planted")
    with pytest.raises(MasterKeyError, match="32 bytes") as caught:
        MasterKey.from_file(file)
    assert "planted" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(MasterKeyError, match="Not a directory"):
        MasterKey.create_file(file / "below")


def test_the_first_master_key_is_the_one(database: Database, master: MasterKey) -> None:
    assert not is_encrypted(database)
    key = data_key(database, master)
    assert is_encrypted(database) and data_key(database, master) == key and len(key) == 32
    with pytest.raises(MasterKeyError, match="not the key that this database was encrypted with"):
        data_key(database, OTHER)


def test_a_secret_moved_to_another_issuer_is_not_used(sqlite: Database, master: MasterKey) -> None:
    data_key(sqlite, master)
    store = IssuerStore(sqlite, master)
    store.create("acme")
    store.create("rival")
    with sqlite.session() as session:
        stolen = "(SELECT secret_encrypted FROM issuer_keys WHERE issuer = 'rival')"
        session.execute(text(f"UPDATE issuer_keys SET secret_encrypted = {stolen} WHERE issuer = 'acme'"))
    with pytest.raises(MasterKeyError, match="issuer_key/acme/1"):
        IssuerStore(sqlite, master).marking_key("acme")


def test_the_master_key_is_exchanged(database: Database, master: MasterKey) -> None:
    key = data_key(database, master)
    store, signer = IssuerStore(database, master), ReceiptSigner(database, master)
    store.create("acme")
    store.rotate("acme")
    keys, public = store.verification_keys(), signer.public_keys()
    assert reencrypt(database, master, OTHER) == 4  # the data key, two issuer keys, one signing key
    assert data_key(database, OTHER) == key
    assert IssuerStore(database, OTHER).verification_keys() == keys
    assert ReceiptSigner(database, OTHER).public_keys() == public
    for call in (lambda: data_key(database, master), lambda: IssuerStore(database, master).list()):
        with pytest.raises(MasterKeyError):
            call()


def test_a_process_with_the_old_key_seals_nothing_after_an_exchange(database: Database, master: MasterKey) -> None:
    data_key(database, master)
    store, signer = IssuerStore(database, master), ReceiptSigner(database, master)
    store.create("acme")
    signer.public_keys()
    keys = store.verification_keys()

    def exchanged(_key: IssuerKey) -> bool:
        """While the key of a new issuer is being checked."""
        return reencrypt(database, master, OTHER) > 0

    for call in (
        lambda: store.create("late", sound=exchanged),
        lambda: store.create("later"),
        lambda: store.rotate("acme"),
        lambda: store.import_keys([IssuerKey("brought", b"x" * 32)]),
        signer.rotate,
        ReceiptSigner(database, master).public_keys,
    ):
        with pytest.raises(MasterKeyError, match="Restart it with the new key"):
            call()
    assert IssuerStore(database, OTHER).verification_keys() == keys
    assert [key.retired_at for key in ReceiptSigner(database, OTHER).public_keys()] == [None]


def test_sealing_waits_for_an_exchange_that_has_begun(database: Database, master: MasterKey) -> None:
    data_key(database, master)
    refused: list[MasterKeyError] = []

    def create() -> None:
        try:
            IssuerStore(database, master).create("late")
        except MasterKeyError as error:
            refused.append(error)

    class Slow(MasterKey):
        """Seals the data key, and with it begun lets another thread try to create an issuer."""

        def seal(self, value: bytes, identity: str) -> bytes:
            thread.start()
            thread.join(timeout=0.3)
            assert thread.is_alive()
            return super().seal(value, identity)

    thread = threading.Thread(target=create)
    reencrypt(database, master, Slow(KEY))
    thread.join(timeout=30)
    assert len(refused) == 1 and IssuerStore(database, MasterKey(KEY)).list() == ()


def test_an_exchange_that_fails_changes_nothing(database: Database, master: MasterKey) -> None:
    key = data_key(database, master)
    IssuerStore(database, master).create("acme")
    with database.session() as session:
        session.execute(text("UPDATE issuer_keys SET secret_encrypted = :damaged"), {"damaged": b"damaged"})
    with pytest.raises(MasterKeyError):
        reencrypt(database, master, OTHER)
    assert data_key(database, master) == key
