"""The whole storage from settings: where things are by default, and what stops a start."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.storage.errors import MasterKeyError, StorageUnavailable
from service.storage.open import Storage, open_storage
from watermark.errors import InvalidInput

SECRET = "5ec7e7" * 10 + "5ec7"


@dataclass(frozen=True)
class StorageSettings:
    database_url: SecretStr | None = None
    master_key: SecretStr | None = None
    master_key_file: Path | None = None


def opened(**settings: object) -> Storage:
    return open_storage(StorageSettings(**settings))  # type: ignore[arg-type]


def test_by_default_all_is_in_the_data_folder(own_home: Path) -> None:
    storage = opened()
    storage.issuers.create("acme")
    assert {path.name for path in own_home.iterdir()} >= {"countersign.db", "master.key"}
    storage.close()
    again = opened()
    assert again.issuers.marking_key("acme").version == 1
    assert again.signer.public_keys() == storage.signer.public_keys()
    again.close()
    storage.close()


def test_the_same_key_from_settings_and_from_a_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET)
    file.chmod(0o600)
    opened(database_url=SecretStr(url), master_key=SecretStr(SECRET)).issuers.create("acme")
    storage = opened(database_url=SecretStr(url), master_key_file=file)
    assert storage.issuers.marking_key("acme").name == "acme"
    storage.close()


def test_a_wrong_master_key_stops_the_start(url: str) -> None:
    opened(database_url=SecretStr(url), master_key=SecretStr(SECRET)).close()
    wrong = SECRET[::-1]
    with pytest.raises(MasterKeyError, match="not the key that this database was encrypted with") as caught:
        opened(database_url=SecretStr(url), master_key=SecretStr(wrong))
    shown = "".join(traceback.format_exception(caught.value))
    assert wrong not in shown and SECRET not in shown
    opened(database_url=SecretStr(url), master_key=SecretStr(SECRET)).close()


def test_a_lost_master_key_file_is_not_replaced(own_home: Path) -> None:
    opened().close()
    (own_home / "master.key").rename(own_home / "aside")
    with pytest.raises(MasterKeyError, match="Restore the file from a backup"):
        opened()
    assert not (own_home / "master.key").exists()
    (own_home / "aside").rename(own_home / "master.key")
    opened().close()


def test_what_else_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="database URL"):
        opened(database_url=SecretStr("nonsense"))
    with pytest.raises(MasterKeyError, match="32 bytes"):
        opened(database_url=SecretStr(f"sqlite:///{tmp_path}/a.db"), master_key=SecretStr("short"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageUnavailable, match="cannot be created"):
        opened(database_url=SecretStr(f"sqlite:///{tmp_path}/file/a.db"))
