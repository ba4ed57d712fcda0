"""`countersign keys`."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from tests.cli.conftest import Run
from watermark.codebook.keys import KeyRing


def test_create_and_list(run: Run, own_home: Path) -> None:
    assert "No keys in" in run("keys", "list").stdout
    created = run("keys", "create", "demo", "--payload-bits", 8)
    assert created.exit_code == 0 and "demo" in created.stdout
    key = KeyRing(own_home / "keys").load("demo")
    assert key.payload_bits == 8
    assert stat.S_IMODE((own_home / "keys" / "demo.json").stat().st_mode) == 0o600
    listed = run("keys", "list")
    assert "demo" in listed.stdout and " 8 payload bits" in listed.stdout
    for result in (created, listed, run("keys", "list", "--json")):
        assert key.secret.hex() not in result.output


def test_json(run: Run, tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    assert run("keys", "list", "--json", "--keys", ring).stdout == "[]\n"
    created = json.loads(run("keys", "create", "demo", "--json", "--keys", ring).stdout)
    assert created == {"name": "demo", "payload_bits": 0, "created": created["created"], "path": str(ring / "demo.json")}
    assert json.loads(run("keys", "list", "--json", "--keys", ring).stdout) == [
        {"name": "demo", "payload_bits": 0, "created": created["created"], "error": None}
    ]


def test_errors_are_one_line_with_a_status(run: Run, own_home: Path) -> None:
    run("keys", "create", "demo")
    for arguments, status, words in [
        (("keys", "create", "demo"), 1, "exists already"),
        (("keys", "create", "../x"), 2, "no issuer name"),
        (("keys", "create", "x", "--payload-bits", 17), 2, "payload-bits"),
    ]:
        result = run(*arguments)
        assert result.exit_code == status and words in result.stderr and result.stdout == ""
    assert run("keys", "create", "demo").stderr.startswith("error: ") and run("keys", "create", "demo").stderr.count("\n") == 1


def test_a_bad_key_is_listed_with_its_reason(run: Run, own_home: Path) -> None:
    run("keys", "create", "good")
    run("keys", "create", "open")
    (own_home / "keys" / "open.json").chmod(0o644)
    result = run("keys", "list")
    assert result.exit_code == 1 and "good" in result.stdout and "chmod 600" in result.stdout
    rows = json.loads(run("keys", "list", "--json").stdout)
    assert [row["error"] is None for row in rows] == [True, False]
