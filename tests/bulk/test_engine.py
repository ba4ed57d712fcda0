"""Runs on Ray, with Ray: a small one through the command line with a real model, and a longer one that is killed."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import bulk_million
from tests.bulk.conftest import BLOCK_LINES, Begin
from tests.bulk.fake_model import DEADLY, FakeModelChoice
from tests.fakes import saved_fake
from watermark.bulk.engine import _places, run_on_ray
from watermark.bulk.jobs import VerifyJob
from watermark.checkpoint import save_pair
from watermark.errors import CountersignError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray of this test's own, whose workers are not put behind everything else on the machine."""
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_no_line_is_lost_or_done_twice_when_workers_and_runs_are_killed(tmp_path: Path) -> None:
    found = bulk_million.measure(tmp_path / "bulk", 20_000, workers=2, block_lines=500, seconds=1e-4, kills=[("worker", 0.2), ("run", 0.5)])
    assert (found["lines"], found["parts"], [kill["killed"] for kill in found["kills"]]) == (20_000, 40, ["worker", "run"])
    assert 20 <= found["kills"][1]["parts_there"] < 40, "killed in the middle"


def test_the_command_gives_what_it_gives_without_ray(tmp_path: Path, own_home: Path) -> None:
    """Parquet and gzip in one folder, against the plain command on the same lines; a worker has the model, the keys and no more."""
    model = saved_fake(tmp_path / "model")
    save_pair(model.pair, model.lm, tmp_path / "pair")
    texts = ["A text", "", "b" * 90, "Another text of some length", "c d e"]
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts).encode() + b"{}\n"))
    pq.write_table(pa.table({"text": texts[::-1]}), folder / "b.parquet")
    together = tmp_path / "in.jsonl"
    together.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts)
        + "{}\n"
        + "".join(json.dumps({"text": text}) + "\n" for text in texts[::-1])
    )

    def countersign(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "watermark.cli.main", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=os.environ | {"COUNTERSIGN_HOME": str(own_home)}, capture_output=True, text=True)

    assert countersign("keys", "create", "demo", "--checkpoint", "pair").returncode == 0
    given = ("--base-model", "model", "--checkpoint", "pair", "--backend", "torch", "--json")
    bulk = countersign("verify", "--texts", folder, "--out", "out", "--engine", "ray", "--block-lines", 4, "--workers", 1, *given)
    assert bulk.returncode == 1, bulk.stderr  # a line was bad
    assert json.loads(bulk.stdout) == {"lines": 11, "errors": 1, "resumed": 0, "out": "out"}, bulk.stderr
    plain = countersign("verify", "--texts", together, "--out", "plain.jsonl", *given)
    assert plain.returncode == 1, plain.stderr
    found = [json.loads(line) for part in sorted((tmp_path / "out" / "parts").glob("*.jsonl")) for line in part.open()]
    expected = [json.loads(line) for line in (tmp_path / "plain.jsonl").open()]
    assert found[5].pop("error") == expected[5].pop("error") | {"file": "a.jsonl.gz"}
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("p_value", "exact_p_value"):
            assert ours.pop(name, 1) == pytest.approx(theirs.pop(name, 1), rel=1e-2)
    assert found == expected


def test_what_a_worker_lacks_is_said_in_one_line(begin: Begin, job: VerifyJob) -> None:
    broken = VerifyJob(FakeModelChoice(broken=True), job.keys, 1e-3, "full")
    with begin() as run, pytest.raises(CountersignError, match="^A worker stopped: The fake checkpoint is broken.$"):
        run_on_ray(broken, run, workers=1, gpu=False, batch_size=4, on_lines=lambda done: None)
    assert not list(run.parts.iterdir())


def test_a_text_that_kills_every_worker_does_not_keep_the_run_for_ever(begin: Begin, job: VerifyJob, source: Path) -> None:
    source.write_text(source.read_text() + json.dumps({"text": DEADLY}) + "\n")
    with begin() as run, pytest.raises(CountersignError, match="^Ray gave up after [0-9]+ of 26 lines: "):
        run_on_ray(job, run, workers=1, gpu=False, batch_size=4, on_lines=lambda done: None)
    with begin() as run:
        assert 6 in [numbered.number for numbered in run.to_do()] and run.resumed >= BLOCK_LINES


def test_without_the_extra_the_command_names_it(begin: Begin, job: VerifyJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with begin() as run, pytest.raises(CountersignError, match=r"pip install 'countersign\[ray\]'"):
        run_on_ray(job, run, workers=1, gpu=False, batch_size=4, on_lines=lambda done: None)


def test_a_finished_run_needs_no_ray(begin: Begin, job: VerifyJob, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    source.write_text("")
    with begin() as run:
        assert run_on_ray(job, run, workers=1, gpu=False, batch_size=4, on_lines=lambda done: None).lines == 0


def node(cpus: float, gpus: float = 0, alive: bool = True) -> dict:
    return {"Alive": alive, "Resources": {"CPU": cpus} | ({"GPU": gpus} if gpus else {})}


def test_workers_share_the_smallest_node() -> None:
    assert _places([node(8)], None, False) == (1, 8)
    assert _places([node(8)], 3, False) == (3, 2)
    assert _places([node(2)], 8, False) == (8, 1)
    assert _places([node(16), node(8), node(64, alive=False), {"Alive": True, "Resources": {}}], 3, False) == (3, 4)
    assert _places([node(16, 4), node(16, 4)], None, True) == (8, 4)
    for nodes, gpu in (([node(8)], True), ([], False)):
        with pytest.raises(CountersignError, match="No node of the Ray cluster"):
            _places(nodes, None, gpu)
