"""`countersign keys`."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.calibrations import sound_calibration, split_calibration
from tests.cli.conftest import Run
from watermark.calibration.file import FILE, Calibration
from watermark.checkpoint_folder import weights_digest
from watermark.codebook.keys import MAX_DRAWS, KeyRing
from watermark.errors import KeyRingError

Calibrated = Callable[[Calibration], Path]


@pytest.fixture
def calibrated(checkpoint: Path, tmp_path: Path) -> Calibrated:
    """A copy of the checkpoint that has the calibration given."""

    def copy(calibration: Calibration) -> Path:
        folder = tmp_path / "calibrated"
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        calibration.save(folder, weights_digest(folder))
        return folder

    return copy


def test_create_and_list(run: Run, own_home: Path) -> None:
    assert "No keys in" in run("keys", "list").stdout
    created = run("keys", "create", "demo", "--payload-bits", 64)
    assert created.exit_code == 0 and "demo" in created.stdout
    assert "Not checked: this checkpoint has no calibration.\n" in created.stdout
    key = KeyRing(own_home / "keys").load("demo")
    assert key.payload_bits == 64
    assert stat.S_IMODE((own_home / "keys" / "demo.json").stat().st_mode) == 0o600
    listed = run("keys", "list")
    assert "demo" in listed.stdout and " 64 payload bits" in listed.stdout
    for result in (created, listed, run("keys", "list", "--json")):
        assert key.secret.hex() not in result.output


def test_json(run: Run, tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    assert run("keys", "list", "--json", "--keys", ring).stdout == "[]\n"
    created = json.loads(run("keys", "create", "demo", "--json", "--keys", ring).stdout)
    about = {"name": "demo", "payload_bits": 0, "created": created["created"]}
    assert created == {**about, "path": str(ring / "demo.json"), "checked": False, "draws": 1}
    assert json.loads(run("keys", "list", "--json", "--keys", ring).stdout) == [{**about, "error": None}]


def test_a_new_key_is_checked_and_can_be_checked_again(run: Run, calibrated: Calibrated) -> None:
    folder = calibrated(sound_calibration())
    created = run("keys", "create", "demo", "--checkpoint", folder)
    assert created.exit_code == 0 and "Checked against 400 calibration texts.\n" in created.stdout
    other = json.loads(run("keys", "create", "other", "--checkpoint", folder, "--json").stdout)
    assert (other["checked"], other["draws"]) == (True, 1)
    checked = run("keys", "check", "demo", "--checkpoint", folder)
    assert checked.exit_code == 0 and "'demo' is sound (checked against 400 calibration texts): at 64 tokens" in checked.stdout
    report = json.loads(run("keys", "check", "demo", "--checkpoint", folder, "--json").stdout)
    assert report == {"name": "demo", "ok": True, "distance": report["distance"], "length": 64, "texts": 400}
    assert 0 < report["distance"] < 1


def test_an_unsound_secret_is_drawn_again(run: Run, calibrated: Calibrated, own_home: Path) -> None:
    folder = calibrated(split_calibration(20))
    names = [f"demo{i}" for i in range(5)]
    created = [json.loads(run("keys", "create", name, "--checkpoint", folder, "--json").stdout) for name in names]
    assert all(key["checked"] for key in created) and 1 < max(key["draws"] for key in created) <= MAX_DRAWS
    assert all(run("keys", "check", name, "--checkpoint", folder).exit_code == 0 for name in names)
    assert len({key.secret for key in KeyRing(own_home / "keys").all()}) == len(names)


def test_how_many_secrets_were_thrown_away_is_said(run: Run, calibrated: Calibrated) -> None:
    folder = calibrated(split_calibration(20))
    said = [run("keys", "create", f"demo{i}", "--checkpoint", folder).stdout.splitlines()[1] for i in range(5)]
    assert all(line.startswith("Checked against 20 calibration texts") for line in said)
    assert any("secrets drawn failed and were thrown away." in line for line in said)


def test_when_no_secret_is_sound_nothing_is_written(run: Run, calibrated: Calibrated, own_home: Path) -> None:
    folder = calibrated(split_calibration(2000, directions=4))
    refused = run("keys", "create", "demo", "--checkpoint", folder)
    assert refused.exit_code == 1 and refused.stdout == "" and refused.stderr.count("\n") == 1
    assert f"None of {MAX_DRAWS} secrets" in refused.stderr and "Nothing was written" in refused.stderr
    assert not own_home.exists()


def test_a_key_of_another_checkpoint_can_be_unsound(run: Run, calibrated: Calibrated, own_home: Path) -> None:
    run("keys", "create", "demo")
    folder = calibrated(split_calibration(2000, directions=4))
    found = run("keys", "check", "demo", "--checkpoint", folder)
    assert found.exit_code == 1 and "'demo' is not sound" in found.stdout and "more often than the threshold says" in found.stdout
    as_json = run("keys", "check", "demo", "--checkpoint", folder, "--json")
    report = json.loads(as_json.stdout)
    assert as_json.exit_code == 1 and not report["ok"] and report["distance"] > 1
    secret = KeyRing(own_home / "keys").load("demo").secret.hex()
    assert secret not in found.output + as_json.output


def test_what_cannot_be_checked_is_said(run: Run, calibrated: Calibrated, own_home: Path) -> None:
    run("keys", "create", "demo")
    missing = run("keys", "check", "demo")
    assert missing.exit_code == 1 and "fake-untrained has no calibration" in missing.stderr and "countersign calibrate" in missing.stderr
    assert run("keys", "check", "nobody").exit_code == 2
    folder = calibrated(sound_calibration())
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-9])
    for command in ("check", "create"):
        damaged = run("keys", command, "demo" if command == "check" else "second", "--checkpoint", folder)
        assert damaged.exit_code == 1 and FILE in damaged.stderr and "Traceback" not in damaged.stderr
    assert KeyRing(own_home / "keys").names() == ["demo"]


def test_the_ring_stores_the_first_secret_that_is_sound(tmp_path: Path) -> None:
    ring, seen = KeyRing(tmp_path / "keys"), []

    def third(key: object) -> bool:
        seen.append(key)
        return len(seen) == 3

    key = ring.create("demo", 8, third)
    assert key == seen[2] == ring.load("demo") and len({drawn.secret for drawn in seen}) == 3
    assert all((drawn.name, drawn.payload_bits) == ("demo", 8) for drawn in seen)
    with pytest.raises(KeyRingError, match="Nothing was written"):
        ring.create("other", 8, lambda _: False)
    assert ring.names() == ["demo"]


def test_errors_are_one_line_with_a_status(run: Run, own_home: Path) -> None:
    run("keys", "create", "demo")
    for arguments, status, words in [
        (("keys", "create", "demo"), 1, "exists already"),
        (("keys", "create", "../x"), 2, "no issuer name"),
        (("keys", "create", "x", "--payload-bits", 65), 2, "payload-bits"),
        (("keys", "create", "x", "--checkpoint", "no-such"), 1, "no-such"),
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
