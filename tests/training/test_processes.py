"""Two processes train as one with twice the texts, hold the same weights throughout, and can be killed. With gloo, on the CPU."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes import saved_fake
from tests.training.fake_course import FakeCourse
from tests.training.launched import KILLED_AT, SETTINGS, TEXTS, trainer
from watermark.training.processes import ALONE, Processes

ROOT = Path(__file__).parents[2]
KINDS = ("fake", "tournament", "residual")


def torchrun(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Two processes of this machine, which find each other at a free port."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    (folder / "whole").mkdir()
    done = torchrun("-m", "tests.training.launched", "whole", corpus, folder / "whole")
    assert done.returncode == 0, done.stderr
    return folder


def left(folder: Path, kind: str) -> list[dict[str, Any]]:
    """What each of the two processes had in the end."""
    return [torch.load(folder / "whole" / f"{kind}-{index}.pt", weights_only=True) for index in range(2)]


class Second(Processes):
    """The other one of two, for what it draws."""

    index = 1


@pytest.mark.parametrize("kind", KINDS)
def test_both_hold_the_same_and_only_one_writes(folder: Path, kind: str) -> None:
    one, other = left(folder, kind)
    assert one["step"] == other["step"] == SETTINGS.steps and one["course"] == other["course"]
    assert all(torch.equal(one["pair"][name], other["pair"][name]) for name in one["pair"])
    assert torch.equal(one["gradients"], other["gradients"]) and bool((one["gradients"] != 0).any())
    with (folder / "whole" / kind / "curves.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["4", "8"]


def test_a_step_of_two_is_a_step_of_one_with_twice_the_texts(folder: Path, corpus: Path, tmp_path: Path) -> None:
    """Literally: processes 0 and 1 have texts 0 … 3 and 4 … 7, the single one 0 … 7. Clipping and AdamW come after the average."""
    single = trainer("fake", corpus, tmp_path)
    single.course = FakeCourse(2 * TEXTS, ALONE)
    gradients = []
    single.run(lambda _: gradients.append(torch.cat([p.grad.flatten() for p in single.pair.parameters() if p.grad is not None])))
    both, _ = left(folder, "fake")
    assert torch.allclose(torch.stack(gradients), both["gradients"], rtol=1e-4, atol=1e-7)
    for name, value in single.pair.state_dict().items():
        assert torch.allclose(value, both["pair"][name], rtol=1e-4, atol=1e-6), name
    assert both["course"] == {"seen": (TEXTS + 2 * TEXTS) / 2}, "figures are means over both"


@pytest.mark.parametrize("kind", ["tournament", "residual"])
def test_the_first_gradient_is_the_mean_of_what_both_draw(folder: Path, corpus: Path, tmp_path: Path, kind: str) -> None:
    """Every term is a mean over texts, so that this is the gradient of their texts together."""
    shutil.copytree(folder / f"features-{kind}", tmp_path / f"features-{kind}")
    single = trainer(kind, corpus, tmp_path / "single")
    gradients, divergences, lengths = [], [], []
    for processes in (ALONE, Second()):
        rng = np.random.default_rng(processes.stream(SETTINGS.seed, 0))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        terms, figures = single.course.losses(single.lm, single.pair, rng, generator)
        single.pair.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in single.pair.parameters() if p.grad is not None]))
        divergences.append(figures.get("divergence", 0.0))
        lengths.append(len(gradients[-1]))
    assert lengths[0] == lengths[1] and not torch.allclose(*gradients), "each draws texts and signs of its own"
    mean = torch.stack(gradients).mean(dim=0)
    expected = mean * min(1.0, SETTINGS.clip_norm / (float(mean.norm()) + 1e-6))
    assert torch.allclose(left(folder, kind)[0]["gradients"][0], expected, rtol=1e-3, atol=1e-6)
    if kind == "residual":
        before = single.course.state()["multiplier"]
        single.course.after_step({"divergence": float(np.mean(divergences))})
        assert single.course.state()["multiplier"] != before


def test_features_are_made_by_both_and_are_those_of_one(folder: Path, corpus: Path, tmp_path: Path) -> None:
    trainer("tournament", corpus, tmp_path / "single")
    names = sorted(path.name for path in (tmp_path / "features-tournament").iterdir())
    assert names == sorted(path.name for path in (folder / "features-tournament").iterdir())
    for name in names:
        assert (tmp_path / "features-tournament" / name).read_bytes() == (folder / "features-tournament" / name).read_bytes(), name


def test_a_killed_run_goes_on_with_two_processes_or_one(folder: Path, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "features-tournament", tmp_path / "features-tournament")
    killed = torchrun("-m", "tests.training.launched", "killed", corpus, tmp_path / "two")
    assert killed.returncode != 0 and not list(tmp_path.glob("two/*.pt"))
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    done = torchrun("-m", "tests.training.launched", "resumed", corpus, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    whole = left(folder, "tournament")[0]["pair"]
    for index in range(2):
        resumed = torch.load(tmp_path / "two" / f"resumed-{index}.pt", weights_only=True)
        assert resumed["begun"] == KILLED_AT - 1, "its last step was not saved any more"
        assert all(torch.equal(resumed["pair"][name], whole[name]) for name in whole), "as if nobody had killed it"
    alone = trainer("tournament", corpus, tmp_path / "one")
    assert alone.step == KILLED_AT - 1
    alone.run()
    assert alone.step == SETTINGS.steps


def test_the_command_under_torchrun(tmp_path: Path) -> None:
    saved_fake(tmp_path / "model")
    rng = np.random.default_rng(0)
    words = ["river", "stone", "green", "walks", "under", "light", "seven", "early", "begins", "the", "of"]
    texts = [" ".join(rng.choice(words, 60)) for _ in range(110)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    given = ["--corpus", "corpus.jsonl", "--out", "pair", "--base-model", "model", "--documents", "96", "--sampled", "0", "--steps", "2"]
    done = torchrun("-m", "watermark.cli.main", "train", *given, "--finished", "0", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # one process speaks
    assert report["processes"] == 2 and json.loads((tmp_path / "pair" / "training.json").read_text()) == report
    assert (tmp_path / "pair" / "model.safetensors").exists() and len((tmp_path / "pair" / "curves.csv").read_text().splitlines()) == 2
