"""`countersign receipt verify`, as a stranger runs it: no settings, no database, no network."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from service.receipts import cli
from service.receipts.signer import ReceiptSigner
from tests.service.storage.issued import issue
from watermark.cli.errors import ErrorReportingGroup

Run = Callable[..., Result]
TEXT = "Une phrase, et encore une: 船.\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    app = typer.Typer(cls=ErrorReportingGroup)
    app.command("other")(lambda: None)  # typer folds an application of one command
    cli.register(app)

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a network connection")

    monkeypatch.setattr(socket, "socket", no_network)
    return lambda *arguments, stdin=None: CliRunner().invoke(app, ["receipt", "verify", *map(str, arguments)], input=stdin)


@pytest.fixture
def files(signer: ReceiptSigner, tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "receipt.json").write_text(issue(signer, TEXT).model_dump_json(indent=2))
    (folder / "key.pem").write_text(signer.public_keys()[0].pem)
    (folder / "text.txt").write_text(TEXT)
    return folder


def test_valid(run: Run, files: Path, signer: ReceiptSigner) -> None:
    for key in (files / "key.pem", signer.public_keys()[0].public_key):
        result = run(files / "receipt.json", "--public-key", key, "--text", files / "text.txt")
        assert result.exit_code == 0 and result.stdout.startswith("valid: ") and "issuer: acme" in result.stdout
    piped = run(files / "receipt.json", "--public-key", files / "key.pem", "--text", "-", stdin=TEXT)
    assert piped.exit_code == 0 and piped.stdout == result.stdout
    assert run("-", "--public-key", files / "key.pem", stdin=(files / "receipt.json").read_text()).exit_code == 0


def test_not_valid(run: Run, files: Path) -> None:
    (files / "other.txt").write_text("Another text.")
    other = run(files / "receipt.json", "--public-key", files / "key.pem", "--text", files / "other.txt")
    assert other.exit_code == 1 and other.stdout.startswith("not valid: ") and "another text" in other.stdout
    (files / "receipt.json").write_text((files / "receipt.json").read_text().replace("acme", "rival"))
    forged = run(files / "receipt.json", "--public-key", files / "key.pem")
    assert forged.exit_code == 1 and "was changed" in forged.stdout and "rival" not in forged.stdout


def test_json(run: Run, files: Path) -> None:
    good = json.loads(run(files / "receipt.json", "--public-key", files / "key.pem", "--text", files / "text.txt", "--json").stdout)
    assert (good["valid"], good["signature"], good["content"], good["receipt"]["issuer"]) == (True, True, True, "acme")
    result = run(files / "key.pem", "--public-key", files / "key.pem", "--json")
    bad = json.loads(result.stdout)
    assert result.exit_code == 1 and (bad["valid"], bad["receipt"], bad["reason"]) == (False, None, "It is not JSON.")


def test_arguments_that_cannot_be_used(run: Run, files: Path) -> None:
    (files / "latin1.txt").write_bytes("é".encode("latin-1"))
    for arguments, message in (
        ((files / "nothing.json", "--public-key", files / "key.pem"), "cannot be read: No such file"),
        ((files / "receipt.json", "--public-key", "0123"), "no Ed25519 public key"),
        ((files / "receipt.json", "--public-key", files / "text.txt"), "no Ed25519 public key"),
        ((files / "receipt.json", "--public-key", files / "key.pem", "--text", files / "latin1.txt"), "not UTF-8 (byte 0)"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and message in result.stderr
