"""`countersign benchmark` from the command line, on a base model and checkpoints read from disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.fakes import saved_fake
from watermark.benchmark.page import published
from watermark.checkpoint import save_pair
from watermark.cli.benchmark import register
from watermark.cli.errors import ErrorReportingGroup


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Everything but --out."""
    folder = tmp_path_factory.mktemp("benchmark")
    model = saved_fake(folder / "base")
    for name in ("pair", "other-pair"):
        save_pair(model.pair, model.lm, folder / name)
    records = [{"prompt": f"The river has {i} bridges and a ferry", "human": "It is wide and cold. " * 3, "source": "s"} for i in range(3)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    texts = [{"text": f"Nobody knew who had left {i} boats on the shore."} for i in range(100, 201)]
    (folder / "human.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    files = ["--prompts", str(folder / "prompts.jsonl"), "--human", str(folder / "human.jsonl"), "--base-model", str(folder / "base")]
    pairs = ["--checkpoint", str(folder / "pair"), "--checkpoint", str(folder / "other-pair")]
    sizes = ["--n", "3", "--human-texts", "100", "--lengths", "24", "--attacks", "delete-10", "--peers", "kgw", "--backend", "torch"]
    return ["benchmark", *files, *pairs, *sizes]


def run(*arguments: str):
    app = typer.Typer(cls=ErrorReportingGroup)
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, list(arguments))


def test_table_and_page_then_json_of_the_same_run(arguments: list[str], tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "evidence.md"
    first = run(*arguments, "--out", str(out), "--page", str(page))
    assert first.exit_code == 0, first.output
    assert "delete-10" in first.stdout and "report.md" in first.stdout
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "detection.png", "quality.png", "work"}
    assert {path.name for path in (out / "work").iterdir()} == {"unmarked", "pair", "other-pair", "kgw"}
    assert page.read_text() == published(page)
    again = run(*arguments, "--out", str(out), "--json")
    assert again.exit_code == 0, again.output
    report = json.loads(again.stdout)
    assert list(report["methods"]) == ["pair", "other-pair", "kgw"] and report["default"] == "pair"
    assert report["methods"]["pair"]["timing"] == json.loads((out / "work" / "pair" / "timing.jsonl").read_text())


@pytest.mark.parametrize(
    "extra,message",
    [
        (["--attacks", "rephrase"], "Unknown attack 'rephrase'"),
        (["--peers", "nobody"], "Unknown peer 'nobody'"),
        (["--lengths", "50,x"], "--lengths"),
        (["--human-texts", "10"], "human texts"),
        (["--page", "page.html"], "--page"),
        (["--checkpoint", "no-such-checkpoint"], "no-such-checkpoint"),
        (["--n", "0"], "n must be"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments: list[str], tmp_path: Path, extra: list[str], message: str) -> None:
    result = run(*arguments, "--out", str(tmp_path / "out"), *extra)
    assert result.exit_code in (1, 2) and message in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
