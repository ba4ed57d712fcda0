"""A run over a small file with the fake model, without Ray."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bulk.fake_model import FakeModelChoice
from watermark.bulk.folder import RunFolder
from watermark.bulk.jobs import KeyChoice, VerifyJob
from watermark.bulk.worker import BlockWorker, Part
from watermark.codebook.keys import KeyRing

LINES = 25
BLOCK_LINES = 4
Begin = Callable[..., RunFolder]


@pytest.fixture
def job(own_home: Path) -> VerifyJob:
    ring = KeyRing(own_home / "keys")
    ring.create("demo")
    return VerifyJob(FakeModelChoice(), KeyChoice.of(ring, ring.all()), 1e-3, "full")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join("bad\n" if i % 10 == 3 else json.dumps({"text": "word " * (i % 7) + str(i)}) + "\n" for i in range(LINES)))
    return path


@pytest.fixture
def begin(tmp_path: Path, source: Path, job: VerifyJob) -> Begin:
    """The run, new or taken up again."""

    def call(**changes) -> RunFolder:
        given = {"files": [source], "field": "text", "arguments": job.arguments(), "block_lines": BLOCK_LINES} | changes
        return RunFolder(tmp_path / "out", **given)

    return call


def work_on(run: RunFolder, job: VerifyJob, most: int | None = None, batch_size: int = 3) -> list[Part]:
    """As a worker of Ray does, without Ray: parts are made, but nobody is told."""
    worker = BlockWorker(job, run.files, run.parts, batch_size)
    return [worker.do(numbered) for numbered in run.to_do()[:most]]
