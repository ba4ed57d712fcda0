"""`countersign evaluate` from the command line, on a base model and a checkpoint read from disk."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.fakes import saved_fake
from watermark.checkpoint import save_pair
from watermark.cli.errors import ErrorReportingGroup
from watermark.cli.evaluate import register
from watermark.evaluation.attacks import NAMES


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Everything but --out."""
    folder = tmp_path_factory.mktemp("evaluate")
    model = saved_fake(folder / "base")
    save_pair(model.pair, model.lm, folder / "pair")
    records = [{"prompt": f"The river has {i} bridges and a ferry", "human": "It is wide and cold. " * 3, "source": "s"} for i in range(4)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    files = ["--prompts", str(folder / "prompts.jsonl"), "--base-model", str(folder / "base"), "--checkpoint", str(folder / "pair")]
    return ["evaluate", *files, "--n", "3", "--lengths", "24", "--attacks", "delete-10, lower-case"]


def run(*arguments: str):
    app = typer.Typer(cls=ErrorReportingGroup)
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, list(arguments))


def test_table_then_json_of_the_same_run(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    first = run(*arguments, "--out", str(out))
    assert first.exit_code == 0, first.output
    assert "delete-10" in first.stdout and "perplexity" in first.stdout and "report.json" in first.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.png", "report.work"}
    again = run(*arguments, "--out", str(out), "--json")
    assert again.exit_code == 0, again.output
    report = json.loads(again.stdout)
    assert [cell["attack"] for cell in report["detection"] if cell["condition"] == "marked"] == ["clean", "delete-10", "lower-case"]
    assert len(report["settings"]["checkpoint_digest"]) == 16


def test_help_names_every_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shown = " ".join(run("evaluate", "--help").stdout.replace("│", " ").split())
    assert all(name in shown for name in NAMES)


def test_paraphraser_from_the_command_line(arguments: list[str], tmp_path: Path) -> None:
    code = "import sys; print(sys.stdin.read().upper())"
    command = shlex.join([sys.executable, "-c", code])
    result = run(*arguments, "--out", str(tmp_path / "report.json"), "--attacks", "paraphrase", "--paraphraser", command)
    assert result.exit_code == 0, result.output
    scores = [json.loads(line) for line in (tmp_path / "report.work" / "scores.jsonl").read_text().splitlines()]
    texts = {s["attack"]: s["text"] for s in scores if s["condition"] == "marked" and s["number"] == 0}
    assert texts["paraphrase"] == texts["clean"].upper().strip()


@pytest.mark.parametrize(
    "extra,message",
    [
        (["--attacks", "rephrase"], "Unknown attack 'rephrase'"),
        (["--attacks", "paraphrase"], "give --paraphraser"),
        (["--attacks", "paraphrase", "--paraphraser", "no-such-program --fast"], "'no-such-program'"),
        (["--paraphraser", "'open"], "--paraphraser is not a command"),
        (["--lengths", "50,x"], "--lengths"),
        (["--checkpoint", "no-such-checkpoint"], "no-such-checkpoint"),
        (["--n", "0"], "n must be"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments: list[str], tmp_path: Path, extra: list[str], message: str) -> None:
    result = run(*arguments, "--out", str(tmp_path / "report.json"), *extra)
    assert result.exit_code in (1, 2) and message in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
