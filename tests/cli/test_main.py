"""The command as a whole: help, errors, exit statuses, and loading a model for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import Run
from tests.fakes import fake_lm
from watermark.cli import common, main
from watermark.errors import BaseModelError


def test_help_lists_the_commands_without_loading_torch() -> None:
    code = (
        "import sys; from watermark.cli.main import app; "
        "heavy = {'torch', 'transformers', 'scipy'} & set(sys.modules); assert not heavy, heavy; app(['--help'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    for command in (*main.COMMANDS, "Usage:"):
        assert command in ran.stdout


def test_every_command_prints_json_when_asked(run: Run) -> None:
    plain = [[name] for name in main.COMMANDS if name != "keys"]
    for command in [*plain, *(["keys", name] for name in ("create", "check", "list"))]:
        result = run(*command, "--help")
        assert result.exit_code == 0 and "--json" in result.stdout, command


def test_wrong_usage(run: Run) -> None:
    for arguments in (["nonsense"], ["generate", "--nonsense"], ["keys", "create"]):
        result = run(*arguments)
        assert result.exit_code == 2 and result.stdout == "" and "Usage:" in result.stderr


def failing(error: BaseException):
    def load_model(*_: object) -> None:
        raise error

    return load_model


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BaseModelError("two\nlines"), 1, "error: two lines\n"),
        (FileNotFoundError(2, "No such file or directory", "/x/y"), 1, "error: cannot use /x/y: No such file or directory\n"),
        (RuntimeError("something"), 1, "error: unexpected RuntimeError: something (set COUNTERSIGN_DEBUG=1 to see where)\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_become_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str) -> None:
    run("keys", "create", "demo")
    monkeypatch.setattr(common, "load_model", failing(error))
    result = run("generate", "x")
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", words)


def test_debugging_lets_exceptions_through(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("keys", "create", "demo")
    monkeypatch.setattr(common, "load_model", failing(RuntimeError("something")))
    monkeypatch.setenv("COUNTERSIGN_DEBUG", "1")
    assert isinstance(run("generate", "x").exception, RuntimeError)


def test_wrong_names_are_told_before_a_model_is_loaded(own_home: Path) -> None:
    runner = CliRunner()
    runner.invoke(main.app, ["keys", "create", "demo"])
    unknown = runner.invoke(main.app, ["generate", "x", "--checkpoint", "no-such-checkpoint"])
    assert unknown.exit_code == 1 and "no-such-checkpoint" in unknown.stderr and "Shipped:" in unknown.stderr
    other = runner.invoke(main.app, ["generate", "x", "--base-model", "owner/other"])
    assert other.exit_code == 1 and "Train one" in other.stderr


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    """The real loader, from a folder of the fake model."""
    lm = fake_lm()
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    runner = CliRunner()
    runner.invoke(main.app, ["keys", "create", "demo"])
    result = runner.invoke(
        main.app, ["generate", "x", "--base-model", str(tmp_path / "model"), "--checkpoint", str(tmp_path / "checkpoint")]
    )
    assert result.exit_code == 1 and "config.json" in result.stderr and "Traceback" not in result.stderr


def test_commands_of_other_packages_join_by_entry_point(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "extra_commands.py").write_text("def register(app):\n    @app.command('extra')\n    def extra():\n        print('here')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = EntryPoints(
        EntryPoint(name, value, "countersign.commands")
        for name, value in [("extra", "extra_commands:register"), ("gone", "no_such_module:register")]
    )
    monkeypatch.setattr(main, "entry_points", lambda group: points.select(group=group))
    result = CliRunner().invoke(main.build_app(), ["extra"])
    assert result.stdout == "here\n"
    assert "'gone' is not available" in capsys.readouterr().err  # told, and no hindrance


def test_a_closed_pipe_is_no_error(own_home: Path) -> None:
    """`countersign … | head` must end in silence."""
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"COUNTERSIGN_HOME": str(own_home)}
    ran = subprocess.run(
        [sys.executable, "-m", "watermark.cli.main", "keys", "list", "--json"], stdout=write, stderr=subprocess.PIPE, env=environment
    )
    os.close(write)
    assert b"Traceback" not in ran.stderr and b"error:" not in ran.stderr


def test_json_output_is_one_line_of_json(run: Run) -> None:
    run("keys", "create", "demo")
    out = run("generate", "x", "--max-new-tokens", 5, "--json").stdout
    assert out.count("\n") == 1 and json.loads(out)
