"""The README's Python runs as printed, its commands exist, and its tree is the repository's."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from service.client import Client
from service.receipts.document import content_sha256
from service.settings_table import rewritten
from watermark.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
CONSOLE = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for block in CONSOLE for line in block.splitlines()]
LOCAL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service with the default model, as `make run` starts it."""
    environment = {**os.environ, "COUNTERSIGN_HOME": str(tmp_path_factory.mktemp("home")), "COUNTERSIGN_PORT": "0"}
    command = [sys.executable, "-m", "watermark.cli.main", "serve", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True) as process:
        try:
            assert process.stdout
            url = json.loads(process.stdout.readline())["url"]
            with Client(url) as client:
                client.wait_until_ready(120)
            yield url
        finally:
            process.send_signal(signal.SIGINT)


def test_the_library_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in PYTHON if LOCAL not in block)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("marked acme ")


def test_the_client_block_runs(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in PYTHON if "service.client" in block)
    done: dict[str, Any] = {}
    exec(compile(block.replace(LOCAL, address), "README.md", "exec"), done)
    verdict, receipt, *events = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"True marked default \S+", verdict) and float(verdict.split()[-1]) < 1e-3
    assert receipt == f"default {content_sha256(done['answer'].results[0].text)}"
    assert events


def test_the_block_with_openais_client_runs(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in PYTHON if "openai" in block)
    exec(compile(block.replace(LOCAL, address), "README.md", "exec"), {})
    text, _, watermark = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    assert text and watermark == "True"


def test_the_api_by_example_runs_as_printed(address: str) -> None:
    (block,) = (block for block in CONSOLE if "curl" in block)
    script = block.replace(LOCAL, address).replace("curl -s", "curl --fail-with-body -s")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in (
        '"watermark":true',
        "event: done",
        '"verdict":"insufficient_text"',
        '"payload":"2a"',
        '"key_version":2',
        "BEGIN PUBLIC KEY",
        '"status":"ready"',
        "countersign_generated_tokens_total",
    ):
        assert expected in done.stdout, expected


def test_the_configuration_table_is_that_of_the_settings() -> None:
    assert rewritten(README) == README


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
