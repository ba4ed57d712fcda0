"""The command in processes of its own, nothing replaced: a model folder, a checkpoint folder, a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes import fake_config, fake_lm
from watermark.checkpoint import save_pair
from watermark.pair import build_pair

LINES = 24


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    lm = fake_lm()
    lm.model.save_pretrained(folder / "lm")
    lm.tokenizer.save_pretrained(folder / "lm")
    save_pair(build_pair(fake_config(), lm), lm, folder / "pair")
    return ["--base-model", str(folder / "lm"), "--checkpoint", str(folder / "pair")]


def start(*arguments: object, **options: object) -> subprocess.Popen:
    # One thread: a tiny model on a busy machine otherwise mostly waits for its other threads.
    command = [sys.executable, "-m", "watermark.cli.main", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # What a shell starts in the background ignores SIGINT, and so would everything that this test starts there.
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, env=environment, preexec_fn=heard, **options)  # type: ignore[call-overload]


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def batch(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], Path]:
    """The arguments of a batch run but for --out, and the output of an undisturbed run."""
    folder = tmp_path_factory.mktemp("batch")
    keys = ["--keys", folder / "keys"]
    assert finish(start("keys", "create", "demo", *keys, *models))[0] == 0
    (folder / "in.jsonl").write_text("".join(json.dumps({"prompt": f"Prompt number {i}"}) + "\n" for i in range(LINES)))
    settings = ["--max-new-tokens", 120, "--min-new-tokens", 120, "--seed", 7, "--batch-size", 2]
    arguments = ["generate", "--prompts", folder / "in.jsonl", *settings, *models, *keys]
    code, _, err = finish(start(*arguments, "--out", folder / "whole.jsonl"))
    assert code == 0, err
    return arguments, folder / "whole.jsonl"


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_broken_off_run_goes_on(batch: tuple[list[object], Path], tmp_path: Path, stop: signal.Signals, status: int) -> None:
    arguments, whole = batch
    out, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    process = start(*arguments, "--out", out)
    deadline = time.monotonic() + 120
    while not (partial.exists() and partial.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(stop)
    code, _, err = finish(process)
    assert code == status and "Traceback" not in err
    done = partial.read_bytes().count(b"\n")
    assert 4 <= done < LINES and not out.exists()

    code, printed, err = finish(start(*arguments, "--out", out, "--json"))
    assert code == 0, err
    assert json.loads(printed)["resumed"] == done and out.read_bytes() == whole.read_bytes()


def test_marked_texts_are_found_by_another_process(batch: tuple[list[object], Path], models: list[str], tmp_path: Path) -> None:
    arguments, whole = batch
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": json.loads(line)["text"]}) + "\n" for line in whole.read_text().splitlines()))
    code, _, err = finish(start("verify", "--texts", texts, "--out", tmp_path / "verdicts.jsonl", *models, *arguments[-2:]))
    assert code == 0, err
    verdicts = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert len(verdicts) == LINES and sum(v["issuer"] == "demo" for v in verdicts) > LINES / 2
