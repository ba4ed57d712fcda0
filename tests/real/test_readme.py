"""The README's Python runs as printed, its commands exist, and its tree is the repository's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from watermark.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL) for line in block.splitlines()]


def test_python_blocks_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert PYTHON
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("marked acme ")


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("countersign ")])
def test_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = get_command(app)
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in COMMANDS:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, flags=re.MULTILINE)


def test_the_tree_tells_the_truth() -> None:
    named = re.findall(r"^\| `([a-z_/]+/)` \|", README, flags=re.MULTILINE)
    assert [name for name in named if not (ROOT / name).is_dir()] == []
    folders = {
        path.parent.relative_to(ROOT).as_posix() + "/"
        for top in ("watermark", "models", "service")
        for path in (ROOT / top).rglob("__init__.py")
    }
    missing = {folder for folder in folders if folder not in named} - {"watermark/evaluation/attacks/"}
    assert not missing


def test_relative_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
