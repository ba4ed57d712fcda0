"""A run goes on where it was, and never mixes with another one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.bulk.conftest import BLOCK_LINES, LINES, Begin, work_on
from watermark.bulk.jobs import VerifyJob
from watermark.bulk.worker import inspect_part, part_path
from watermark.errors import CountersignError, InvalidInput


def finish(begin: Begin, job: VerifyJob):
    with begin() as run:
        for part in work_on(run, job):
            run.report(part)
        return run.finish()


def test_a_run_from_beginning_to_end(begin: Begin, job: VerifyJob, tmp_path: Path) -> None:
    summary = finish(begin, job)
    assert (summary.lines, summary.errors, summary.resumed) == (LINES, 3, 0)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [part["lines"] for part in manifest["parts"]] == [BLOCK_LINES] * 6 + [1] and manifest["errors"] == 3
    for entry in manifest["parts"]:
        found = inspect_part(tmp_path / "out" / entry["path"], entry["block"])
        assert (found.sha256, found.bytes, found.errors) == (entry["sha256"], entry["bytes"], entry["errors"])
    secret = json.loads((job.keys.folder / "demo.json").read_text())["secret"]
    assert not any(secret in file.read_text() for file in (tmp_path / "out").rglob("*") if file.is_file())
    again = finish(begin, job)
    assert again.resumed == LINES and json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest


def test_parts_that_nobody_reported_are_kept(begin: Begin, job: VerifyJob) -> None:
    with begin() as run:
        made = work_on(run, job, most=3)
        run.report(made[0])
    with begin() as run:
        assert run.resumed == 3 * BLOCK_LINES == run.lines_there() and [n.number for n in run.to_do()] == [3, 4, 5, 6]
        assert [run.done[part.block] for part in made] == made


def test_what_is_not_whole_is_done_again(begin: Begin, job: VerifyJob, tmp_path: Path) -> None:
    with begin() as run:
        for part in work_on(run, job):
            run.report(part)
    first, second = part_path(tmp_path / "out" / "parts", 0), part_path(tmp_path / "out" / "parts", 1)
    first.write_bytes(first.read_bytes()[:-9])  # as a disk leaves it that lost its power
    second.unlink()
    (tmp_path / "out" / "parts" / ".part-000001.jsonl.0123456789abcdef").write_text("half")
    with (tmp_path / "out" / "done.jsonl").open("a") as journal:
        journal.write('{"block": 2, "li')
    with begin() as run:
        assert [n.number for n in run.to_do()] == [0, 1]
        for part in work_on(run, job):
            run.report(part)
        assert run.finish().lines == LINES
    with begin() as run:
        assert not run.to_do()


def test_nothing_is_finished_while_parts_are_missing(begin: Begin, job: VerifyJob, tmp_path: Path) -> None:
    with begin() as run:
        work_on(run, job, most=2)
        with pytest.raises(CountersignError, match="7 of 7 parts are missing"):
            run.finish()
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("change", ["arguments", "block_lines", "input", "files"])
def test_another_run_is_refused(begin: Begin, job: VerifyJob, source: Path, change: str) -> None:
    with begin() as run:
        work_on(run, job, most=1)
    changes = {"arguments": {"arguments": job.arguments() | {"detail": "public"}}, "block_lines": {"block_lines": 5}}.get(change, {})
    if change == "input":
        source.write_text(source.read_text().replace("word", "WORD"))
    if change == "files":
        changes = {"files": [source, Path(shutil.copy(source, source.with_name("more.jsonl")))]}
    with pytest.raises(InvalidInput, match="other arguments or another input"):
        begin(**changes)


def test_the_same_input_with_another_time_is_the_same(begin: Begin, job: VerifyJob, source: Path) -> None:
    with begin() as run:
        work_on(run, job, most=1)
        seed = run.seed
    os.utime(source, (1, 1))
    with begin() as run:
        assert run.resumed == BLOCK_LINES and run.seed == seed


def test_an_input_that_changes_during_the_run_is_found_out(begin: Begin, job: VerifyJob, source: Path) -> None:
    with begin() as run:
        parts = work_on(run, job)
        source.write_text(source.read_text().replace("word", "WORD"))
        for part in parts:
            run.report(part)
        with pytest.raises(CountersignError, match="has changed since"):
            run.finish()


def test_a_folder_of_something_else_is_left_alone(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInput, match="other things in it"):
        begin()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_one_run_at_a_time(begin: Begin) -> None:
    with begin(), pytest.raises(InvalidInput, match="Another process is writing"):
        begin()
    with begin() as run:
        assert run.lines == LINES


def test_an_empty_input_is_an_empty_result(begin: Begin, source: Path) -> None:
    source.write_text("\n\n")
    with begin() as run:
        summary = run.finish()
    assert (summary.lines, summary.errors) == (0, 0)
