from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from service.cli import announce, listen, register
from service.first_start import first_issuers, require_api_keys
from service.settings import build_settings, local_url
from service.storage.open import open_storage
from tests.cli.calibrations import sound_calibration, split_calibration
from tests.fakes import saved_fake_and_pair
from tests.service.harness import until
from watermark.checkpoint_folder import weights_digest
from watermark.cli.errors import ErrorReportingGroup
from watermark.codebook.keys import KeyRing
from watermark.errors import InvalidInput, KeyRingError
from watermark.folders import key_folder

PROGRAM = "import typer; from service.cli import register; app = typer.Typer(); app.callback()(lambda: None); register(app); app()"


@pytest.fixture
def app() -> typer.Typer:
    """As `countersign` builds it, with this one command."""
    app = typer.Typer(cls=ErrorReportingGroup, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    register(app)
    return app


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--host", "0.0.0.0", "--no-authentication"], 2, "authentication cannot be false"),
        (["--port", "70000"], 2, "port"),
        (["--checkpoint", "no-such"], 1, "no-such"),
        (["--base-model", "no-such-model"], 1, "no-such-model"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(
    app: typer.Typer, own_home: Path, arguments: list[str], status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert result.exit_code == status
    assert said in result.output and "Traceback" not in result.output
    assert not own_home.exists()


def test_a_taken_port_is_said() -> None:
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=rf"Cannot listen on 127\.0\.0\.1 port {port}: Address already in use"):
            listen("127.0.0.1", port)


def test_an_unknown_address_is_said() -> None:
    with pytest.raises(InvalidInput, match=r"Cannot listen on 203\.0\.113\.1"):
        listen("203.0.113.1", 0)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("[::1]", "[::1]")],
)
def test_the_address_can_be_typed_into_a_browser(host: str, address: str) -> None:
    assert local_url(host, 80) == f"http://{address}:80"


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake model and its pair as folders, as a user would have them."""
    return saved_fake_and_pair(tmp_path_factory.mktemp("on_disk"))


def test_only_an_empty_storage_gets_an_issuer(on_disk: Path, own_home: Path) -> None:
    with contextlib.closing(open_storage(build_settings())) as storage:
        first = first_issuers(storage, on_disk / "pair")
        assert first and (first.created, first.imported, first.check.texts) == ("default", (), 0)
        assert storage.issuers.marking_key("default").payload_bits == 0
        assert [(entry.action, entry.subject) for entry in storage.audit.list()] == [("issuer.create", "default")]
        assert first_issuers(storage, on_disk / "pair") is None


def test_the_keys_of_the_command_line_are_taken_over(on_disk: Path, own_home: Path) -> None:
    ring = KeyRing(key_folder())
    made = [ring.create("acme", 8), ring.create("beta")]
    with contextlib.closing(open_storage(build_settings())) as storage:
        first = first_issuers(storage, on_disk / "pair")
        assert first and first.imported == ("acme", "beta") and "acme, beta" in first.words
        assert [key.secret for key in storage.issuers.verification_keys(["acme", "beta"])] == [key.secret for key in made]


def test_the_first_key_is_checked_against_the_calibration(
    on_disk: Path, own_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = tmp_path / "pair"
    shutil.copytree(on_disk / "pair", pair)
    split_calibration(2000, directions=4).save(pair, weights_digest(pair))
    with contextlib.closing(open_storage(build_settings())) as storage:
        with pytest.raises(KeyRingError, match="Nothing was written"):
            first_issuers(storage, pair)
        assert not storage.issuers.list()
        sound_calibration().save(pair, weights_digest(pair))
        first = first_issuers(storage, pair)
    announce("http://127.0.0.1:1", first, as_json=False)
    announce("http://127.0.0.1:1", first, as_json=True)
    said, as_json = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert "'default'" in said and "(checked against 400 calibration texts)" in said and str(own_home) in said
    expected = {"url": "http://127.0.0.1:1", "issuer_created": "default", "issuers_imported": [], "issuer_checked": True}
    assert json.loads(as_json) == expected


def test_nobody_listens_beyond_loopback_without_an_api_key(app: typer.Typer, on_disk: Path, own_home: Path) -> None:
    settings = build_settings(host="0.0.0.0")
    with contextlib.closing(open_storage(settings)) as storage:
        with pytest.raises(InvalidInput, match="api-keys create"):
            require_api_keys(settings, storage)
        require_api_keys(build_settings(host="0.0.0.0", admin_key="x" * 32), storage)
        _, token = storage.api_keys.create("gone", ["admin"])
        require_api_keys(settings, storage)
        storage.api_keys.revoke("gone")
        with pytest.raises(InvalidInput, match="api-keys create"):
            require_api_keys(settings, storage)
    arguments = ["--host", "0.0.0.0", "--port", "0", "--base-model", str(on_disk / "model"), "--checkpoint", str(on_disk / "pair")]
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert result.exit_code == 2 and "api-keys create" in result.output and "Open http" not in result.output and token not in result.output


def serve(folder: Path, home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, "serve", "--json", "--port", "0", *arguments]
    command += ["--base-model", str(folder / "model")]
    with (home / "log").open("w") as log:  # a pipe that nobody reads would stop the process when it is full
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "COUNTERSIGN_HOME": str(home), "COUNTERSIGN_THREADS": "1"},
        )


def test_the_command_serves_marks_verifies_and_stops_in_good_order(on_disk: Path, tmp_path: Path) -> None:
    process = serve(on_disk, tmp_path, "--checkpoint", str(on_disk / "pair"))
    try:
        assert process.stdout
        started = json.loads(process.stdout.readline())
        assert (started["issuer_created"], started["issuer_checked"]) == ("default", False)
        with httpx.Client(base_url=started["url"], timeout=30) as client:
            until(lambda: _status(client, "/livez") == 200, "the process", 30)
            assert client.get("/").status_code == 200
            until(lambda: _status(client, "/readyz") == 200, "the model", 60)
            body = {"prompt": "Hello", "max_new_tokens": 150, "min_new_tokens": 150, "seed": 1}
            result = client.post("/generate", json=body).json()["results"][0]
            assert result["marking"]["issuer"] == "default"
            verdict = client.post("/verify", json={"text": result["text"]}).json()["results"][0]
            assert verdict["verdict"] == ("marked" if result["marking"]["watermark"] else "not_detected")
            with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as connection:
                content = json.dumps({**body, "max_new_tokens": 200, "min_new_tokens": 200}).encode()
                head = f"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
                connection.sendall(head.encode() + b"\r\n\r\n" + content)
                time.sleep(0.1)
                process.send_signal(signal.SIGTERM)
                assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        process.wait(timeout=20)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGTERM
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert {"worker_ready", "ready", "draining", "stopped", "request"} <= {line["event"] for line in lines}


def test_a_model_that_cannot_be_loaded_ends_the_command(app: typer.Typer, on_disk: Path, tmp_path: Path, restored_logs: None) -> None:
    pair = tmp_path / "pair"
    pair.mkdir()
    (pair / "config.json").write_bytes((on_disk / "pair" / "config.json").read_bytes())
    (pair / "model.safetensors").write_bytes(b"not weights")
    arguments = ["--port", "0", "--checkpoint", pair, "--base-model", on_disk / "model"]
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert result.exit_code == 1
    assert "Open http://127.0.0.1:" in result.output and "Created the issuer 'default'" in result.output
    assert "model.safetensors" in result.output.splitlines()[-1]


def _status(client: httpx.Client, path: str) -> int:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return 0
