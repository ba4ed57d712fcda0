"""The real commands on the fake model: only where a model comes from is replaced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from tests.fakes import fake_watermarked_model
from watermark.cli import common
from watermark.cli.main import app

Run = Callable[..., Result]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The fake model in place of every model; the list receives what was asked for."""
    asked: list[tuple] = []

    def load_model(*names: object) -> object:
        asked.append(names)
        return fake_watermarked_model()

    monkeypatch.setattr(common, "load_model", load_model)
    return asked


@pytest.fixture
def run(loads: list[tuple]) -> Run:
    def call(*arguments: object, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)

    return call
