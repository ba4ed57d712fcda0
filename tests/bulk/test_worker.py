"""A part holds what the plain command writes for the same lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bulk.conftest import BLOCK_LINES, LINES, Begin, work_on
from tests.bulk.fake_model import FakeModelChoice
from tests.fakes import fake_watermarked_model
from watermark.bulk.jobs import GenerateJob, KeyChoice, VerifyJob
from watermark.bulk.worker import BlockWorker, part_path
from watermark.cli.batches import run_batches
from watermark.cli.jsonlines import LinesFile, LinesOutput
from watermark.codebook.keys import KeyRing
from watermark.errors import CheckpointError, CountersignError, KeyRingError
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import SamplingSettings


class FakeLanguageModel:
    """See `LoadsModel`: the tiny model, in this process."""

    def load(self) -> WatermarkedModel:
        return fake_watermarked_model()

    def identity(self) -> str:
        return "tiny"


def plain(job: Any, source: Path, out: Path, batch_size: int) -> bytes:
    """The output of the command without Ray."""
    with LinesOutput(out, {}) as output:
        run_batches(LinesFile(source), output, job.start(), batch_size)
    return out.read_bytes()


def parts(begin: Begin, job: Any, batch_size: int, **changes) -> bytes:
    with begin(arguments=job.arguments(), **changes) as run:
        work_on(run, job, batch_size=batch_size)
        return b"".join(part_path(run.parts, numbered.number).read_bytes() for numbered in run.blocks)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_parts_are_what_the_plain_command_writes(begin: Begin, job: VerifyJob, source: Path, tmp_path: Path, batch_size: int) -> None:
    assert parts(begin, job, batch_size) == plain(job, source, tmp_path / "plain.jsonl", batch_size)


def test_every_line_of_a_generation_has_its_own_text(begin: Begin, job: VerifyJob, tmp_path: Path) -> None:
    """With a seed the very texts of the plain command, whatever block or batch they are in; without, those of the run's own seed."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": "ab" * (i % 5)}) + "\n" for i in range(9)) + "{}\n")
    generate = GenerateJob(FakeLanguageModel(), job.keys, SamplingSettings(max_new_tokens=12, seed=5), 0, 1.0)
    made = parts(begin, generate, 2, files=[prompts], field="prompt")
    found, expected = ([json.loads(line) for line in lines.splitlines()] for lines in (made, plain(generate, prompts, tmp_path / "p", 4)))
    p_values = [[record["marking"].pop("p_value") for record in records if "marking" in record] for records in (found, expected)]
    assert found == expected and p_values[0] == pytest.approx(p_values[1], rel=1e-2)
    assert len({record["text"] for record in found[:-1]}) == 9 and found[-1]["error"]["line"] == 10
    unseeded = GenerateJob(FakeLanguageModel(), job.keys, SamplingSettings(max_new_tokens=12), 0, 1.0)
    assert unseeded.seeded(7).sampling.seed == 7 and generate.seeded(7) == generate


def test_errors_of_a_folder_name_the_file(begin: Begin, job: VerifyJob, source: Path) -> None:
    second = source.with_name("later.jsonl")
    second.write_text('{"text": "fine"}\n{"text": 7}\n')
    lines = [json.loads(line) for line in parts(begin, job, 3, files=[source, second]).splitlines()]
    assert len(lines) == LINES + 2
    assert (lines[3]["error"]["line"], lines[3]["error"]["file"]) == (4, "in.jsonl")
    assert (lines[-1]["error"]["line"], lines[-1]["error"]["file"]) == (2, "later.jsonl")


def test_texts_of_like_length_are_worked_on_together(begin: Begin, job: VerifyJob, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    with begin(block_lines=100) as run:
        worker = BlockWorker(job, run.files, run.parts, 6)
        work = worker.work.work
        monkeypatch.setattr(
            worker, "work", type(worker.work)(**{**vars(worker.work), "work": lambda *a: seen.append([len(t) for t in a[0]]) or work(*a)})
        )
        worker.do(run.blocks[0])
    lengths = [length for batch in seen for length in batch]
    assert lengths == sorted(lengths) and [len(batch) for batch in seen] == [6, 6, 6, 4]


def test_an_input_that_lost_lines_is_no_result(begin: Begin, job: VerifyJob, source: Path) -> None:
    with begin() as run:
        source.write_text("\n".join(source.read_text().splitlines()[:BLOCK_LINES]))
        with pytest.raises(CountersignError, match="has changed since this run began"):
            work_on(run, job)
        assert sorted(file.name for file in run.parts.iterdir()) == ["part-000000.jsonl"]


def test_a_key_that_was_replaced_stops_the_run(job: VerifyJob) -> None:
    path = job.keys.folder / "demo.json"
    path.write_text(path.read_text().replace('"payload_bits": 0', '"payload_bits": 8'))
    with pytest.raises(KeyRingError, match="not those that this run began with"):
        job.start()


def test_jobs_carry_no_secret(job: VerifyJob) -> None:
    import pickle

    [key] = KeyRing(job.keys.folder).all()
    generate = GenerateJob(FakeModelChoice(), KeyChoice.of(KeyRing(job.keys.folder), [key]), SamplingSettings(), 0, 1.0)
    for one in (job, generate):
        assert key.secret not in pickle.dumps(one) and key.secret.hex() not in json.dumps(one.arguments())


def test_a_checkpoint_that_cannot_be_loaded_says_so(job: VerifyJob, tmp_path: Path) -> None:
    broken = VerifyJob(FakeModelChoice(broken=True), job.keys, 1e-3, "full")
    with pytest.raises(CheckpointError, match="is broken"):
        BlockWorker(broken, [], tmp_path, 1)
