"""`countersign calibrate` on the fake model: the file lands beside the weights and changes what later commands say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.fakes import fake_watermarked_model
from watermark.calibration.file import FILE
from watermark.checkpoint import save_pair
from watermark.cli.main import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


TEXT = "Number {}: the quick brown fox jumps over the lazy dog, again and again, {} times before noon. "


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = fake_watermarked_model()
    save_pair(model.pair, model.lm, tmp_path / "pair")
    return tmp_path / "pair"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": TEXT.format(i, i * i) * 6}) + "\n" for i in range(110)))
    return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command loads the checkpoint it is given, for the fake language model."""
    lm = fake_watermarked_model().lm
    monkeypatch.setattr("models.registry.load_base_model", lambda name, **options: lm)
    monkeypatch.setattr("models.registry.prepare", lambda name, **options: (Path(), None))


@pytest.mark.usefixtures("fake")
def test_a_calibration_is_written_and_used(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    arguments = ["calibrate", "--texts", f"prose:100={corpus}", "--written", "20", "--work", str(tmp_path / "work")]
    where = ["--checkpoint", str(checkpoint), "--base-model", "gemma3-270m"]
    (checkpoint / FILE).write_bytes(b"damaged, or of weights that are there no more")
    refused = run("keys", "create", "early", *where, "--keys", str(tmp_path / "keys"))
    assert refused.exit_code != 0 and "Make it again with: countersign calibrate" in refused.stderr
    made = run(*arguments, *where, "--json")  # as it was told to
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["texts"]["prose"]["256"] == 100
    assert (checkpoint / FILE).exists()
    key = run("keys", "create", "acme", *where, "--keys", str(tmp_path / "keys"), "--json")
    assert json.loads(key.stdout)["checked"] is True
    verdict = run("verify", "Short.", *where, "--keys", str(tmp_path / "keys"), "--json")
    assert json.loads(verdict.stdout)["expected_detection"] is not None


@pytest.mark.parametrize("item", ["prose=texts.jsonl", "prose:0=texts.jsonl", "pro se:5=x", "prose:5="])
def test_what_kinds_look_like(item: str, tmp_path: Path) -> None:
    result = run("calibrate", "--texts", item, "--work", str(tmp_path))
    assert result.exit_code == 2 and "KIND:COUNT=FILE" in result.stderr
