"""The real commands on the fake model: only where a model comes from is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from models import registry
from tests.fakes import fake_watermarked_model
from watermark.checkpoint import save_pair
from watermark.cli import common
from watermark.cli.main import app

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake pair on disk, without a calibration."""
    folder = tmp_path_factory.mktemp("checkpoints") / "fake-untrained"
    model = fake_watermarked_model()
    save_pair(model.pair, model.lm, folder)
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> list[tuple]:
    """The fake model and its checkpoint in place of every default; the list receives what was asked for."""
    asked: list[tuple] = []

    def load_model(*names: object) -> object:
        asked.append(names)
        return fake_watermarked_model()

    monkeypatch.setattr(common, "load_model", load_model)
    monkeypatch.setattr(registry, "default_checkpoint", lambda _: checkpoint)
    return asked


@pytest.fixture
def run(loads: list[tuple]) -> Run:
    def call(*arguments: object, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)

    return call
