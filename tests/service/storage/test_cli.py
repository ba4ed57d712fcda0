"""The storage commands, on the database and master key of the settings; only where the calibration comes from is replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from models import registry
from service import cli_storage
from service.settings import build_settings
from service.storage.audit import AuditRecord
from service.storage.open import Storage, open_storage
from tests.cli.calibrations import sound_calibration, split_calibration
from tests.fakes import fake_watermarked_model
from watermark.checkpoint import save_pair
from watermark.checkpoint_folder import weights_digest
from watermark.cli.errors import ErrorReportingGroup
from watermark.codebook.keys import KeyRing

Run = Callable[..., Result]


@pytest.fixture
def run(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Everything happens in `own_home`, as nothing else is set."""
    model, checkpoint = fake_watermarked_model(), tmp_path / "checkpoint"
    save_pair(model.pair, model.lm, checkpoint)
    monkeypatch.setattr(registry, "default_checkpoint", lambda _: checkpoint)
    app = typer.Typer(cls=ErrorReportingGroup)
    cli_storage.register(app)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def stored() -> Storage:
    return open_storage(build_settings())


def audited() -> list[AuditRecord]:
    return list(reversed(stored().audit.list()))


def test_the_life_of_an_issuer(run: Run) -> None:
    assert "No issuers yet" in run("issuers", "list").stdout
    created = run("issuers", "create", "acme", "--payload-bits", 8)
    assert created.exit_code == 0 and "key version 1, 8 payload bits" in created.stdout
    assert "key version 2, 8 payload bits" in run("issuers", "rotate", "acme").stdout
    assert "key version 3, 16 payload bits" in run("issuers", "rotate", "acme", "--payload-bits", 16).stdout
    assert "Retired issuer 'acme'" in run("issuers", "retire", "acme").stdout
    run("issuers", "create", "other")
    listed = run("issuers", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["acme", "other"] and "retired" in listed[0] and "retired" not in listed[1]
    [acme, other] = json.loads(run("issuers", "list", "--json").stdout)
    assert [key["version"] for key in acme["keys"]] == [1, 2, 3] and acme["retired_at"] and other["retired_at"] is None
    assert [(record.actor, record.action) for record in audited()] == [
        ("command line", f"issuer.{action}") for action in ("create", "rotate", "rotate", "retire", "create")
    ]
    everything = "".join(run("issuers", *rest).output for rest in (("list",), ("list", "--json")))
    assert not any(key.secret.hex() in everything for key in stored().issuers.verification_keys())


def test_keys_are_checked_against_the_calibration(run: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    sound_calibration().save(checkpoint, weights_digest(checkpoint))
    assert "(checked against 400 calibration texts)" in run("issuers", "create", "acme").stdout
    split_calibration(2000, directions=10).save(checkpoint, weights_digest(checkpoint))  # no key is sound with it
    for arguments in (("create", "other"), ("rotate", "acme")):
        result = run("issuers", *arguments)
        assert result.exit_code == 1 and "is sound" in result.stderr
    assert [(record.name, record.key_version) for record in stored().issuers.list()] == [("acme", 1)]


def test_what_cannot_be_done_to_issuers(run: Run) -> None:
    run("issuers", "create", "acme")
    for arguments, message in (
        (("create", "acme"), "exists already"),
        (("create", "Not A Name"), "no issuer name"),
        (("rotate", "nobody"), "no issuer 'nobody'"),
        (("retire", "nobody"), "no issuer 'nobody'"),
    ):
        result = run("issuers", *arguments)
        assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.output
    run("issuers", "retire", "acme")
    assert "is retired" in run("issuers", "rotate", "acme").stderr


def test_import_from_a_key_ring(run: Run, tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "ring")
    keys = [ring.create("acme", 8), ring.create("other")]
    assert json.loads(run("issuers", "import", ring.folder, "--json").stdout) == {"imported": ["acme", "other"], "known": []}
    assert list(stored().issuers.verification_keys()) == keys
    again = run("issuers", "import", ring.folder)
    assert again.exit_code == 0 and again.stdout == "Imported nothing; known already: acme, other\n"
    elsewhere = KeyRing(tmp_path / "elsewhere")
    elsewhere.create("acme")
    assert "Another key of issuer 'acme'" in run("issuers", "import", elsewhere.folder).stderr
    assert "There are no keys in" in run("issuers", "import", tmp_path / "nothing").stderr


def test_api_keys(run: Run) -> None:
    assert "No API keys yet" in run("api-keys", "list").stdout
    created = run("api-keys", "create", "page", "--scope", "generate", "--scope", "verify", "--expires-days", 30)
    token = created.stdout.strip()
    record = stored().api_keys.authenticate(token)
    assert record is not None and record.name == "page" and record.scopes == ("generate", "verify")
    assert record.expires_at is not None and (record.expires_at - record.created).days in (29, 30)
    made = json.loads(run("api-keys", "create", "ops", "--scope", "admin", "--json").stdout)
    admin = stored().api_keys.authenticate(made["token"])
    assert admin is not None and admin.scopes == ("admin",) and made["expires_at"] is None
    assert "Revoked API key 'page'" in run("api-keys", "revoke", "page").stdout
    assert stored().api_keys.authenticate(token) is None
    listed, as_json = run("api-keys", "list").stdout, run("api-keys", "list", "--json").stdout
    assert "revoked" in listed.splitlines()[0] and [key["active"] for key in json.loads(as_json)] == [False, True]
    assert not any(secret in listed + as_json for secret in (token, token[13:], made["token"][13:]))
    assert [record.action for record in audited()] == ["api_key.create", "api_key.create", "api_key.revoke"]


def test_what_cannot_be_done_to_api_keys(run: Run) -> None:
    for arguments, message in (
        (("create", "page", "--scope", "root"), "generate, verify, metrics, admin"),
        (("create", "page"), "--scope"),
        (("create", "page", "--scope", "verify", "--expires-days", 0), "--expires-days"),
        (("revoke", "nobody"), "no API key named 'nobody'"),
    ):
        result = run("api-keys", *arguments)
        assert result.exit_code == 2 and message in result.stderr


def test_the_database_is_made(run: Run, own_home: Path) -> None:
    for _ in range(2):
        assert run("database", "upgrade").stdout == "The database is up to date.\n"
    assert (own_home / "countersign.db").exists() and not (own_home / "master.key").exists()
    assert "Nothing is encrypted" in run("database", "reencrypt", "--new-master-key-file", own_home / "new.key").stderr
    assert not (own_home / "new.key").exists()


def test_the_master_key_is_exchanged(run: Run, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("issuers", "create", "acme")
    key = stored().issuers.marking_key("acme")
    result = run("database", "reencrypt", "--new-master-key-file", own_home / "new.key")
    assert result.exit_code == 0 and "Encrypted 2 secrets" in result.stdout
    refused = run("issuers", "list")
    assert refused.exit_code == 1 and "not the key that this database was encrypted with" in refused.stderr
    monkeypatch.setenv("COUNTERSIGN_MASTER_KEY_FILE", str(own_home / "new.key"))
    assert stored().issuers.marking_key("acme") == key and stored().audit.list()[0].action == "database.reencrypt"


def test_how_to_start_with_the_new_master_key(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("issuers", "create", "acme")
    key = stored().issuers.marking_key("acme")
    said = run("database", "reencrypt", "--new-master-key-file", "new.key").stdout
    assert f"export COUNTERSIGN_MASTER_KEY_FILE={tmp_path}/new.key\n" in said and "unset" not in said
    monkeypatch.setenv("COUNTERSIGN_MASTER_KEY", (tmp_path / "new.key").read_text().strip())
    said = run("database", "reencrypt", "--new-master-key-file", "newer.key").stdout
    assert "unset COUNTERSIGN_MASTER_KEY " in said and os.environ["COUNTERSIGN_MASTER_KEY"] not in said
    monkeypatch.delenv("COUNTERSIGN_MASTER_KEY")
    refused = run("database", "reencrypt", "--new-master-key-file", "x.key")  # with the key of the first start
    assert refused.exit_code == 1 and "does not open" in refused.stderr
    monkeypatch.setenv("COUNTERSIGN_MASTER_KEY_FILE", f"{tmp_path}/newer.key")
    assert stored().issuers.marking_key("acme") == key
    made = json.loads(run("database", "reencrypt", "--new-master-key-file", "x.key", "--json").stdout)
    assert made["master_key_file"] == f"{tmp_path}/x.key"


def test_a_new_signing_key(run: Run) -> None:
    old = stored().signer.public_keys()[0].key_id
    made = json.loads(run("database", "new-signing-key", "--json").stdout)
    newest, oldest = stored().signer.public_keys()
    assert (newest.key_id, newest.public_key, oldest.key_id) == (made["key_id"], made["public_key"], old)
    assert "BEGIN PUBLIC KEY" in run("database", "new-signing-key").stdout


def test_a_password_is_not_shown_when_the_database_is_gone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_DATABASE_URL", "postgresql://user:planted-password@127.0.0.1:1/name")
    for arguments in (("issuers", "list"), ("database", "upgrade"), ("api-keys", "revoke", "x")):
        result = run(*arguments)
        assert result.exit_code == 1 and "not available" in result.stderr and "planted" not in result.output
