"""Folders that are made once: complete or absent, whatever breaks off, however many start at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from models.cache import MARKER, is_complete, made_once
from watermark.errors import BaseModelError


def silent(_: str) -> None:
    pass


def fill(folder: Path) -> None:
    (folder / "weights").write_bytes(b"x" * 1000)
    (folder / "config.json").write_text("{}")


def make(folder: Path, maker=fill) -> Path:
    return made_once(folder, maker, needed_bytes=0, say=silent)


def test_made_once(tmp_path: Path) -> None:
    made = []

    def count(folder: Path) -> None:
        made.append(folder)
        fill(folder)

    target = tmp_path / "cache" / "model"
    assert not is_complete(target)
    for _ in range(2):
        assert make(target, count) == target
    assert len(made) == 1 and is_complete(target)
    assert sorted(file.name for file in target.iterdir()) == [MARKER, "config.json", "weights"]
    assert [p.name for p in target.parent.iterdir() if ".making-" in p.name] == []


def test_a_failure_leaves_nothing_and_passes_through(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise BaseModelError("no")

    with pytest.raises(BaseModelError, match="^no$"):
        make(tmp_path / "model", fail)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir() and "home" not in p.name] == []
    assert is_complete(make(tmp_path / "model"))


@pytest.mark.parametrize("damage", ["marker gone", "marker cut", "file gone", "file shorter", "marker of another kind"])
def test_an_incomplete_folder_is_made_again(tmp_path: Path, damage: str) -> None:
    target = make(tmp_path / "model")
    if damage == "marker gone":
        (target / MARKER).unlink()
    elif damage == "marker cut":
        (target / MARKER).write_text('{"files": {"wei')
    elif damage == "marker of another kind":
        (target / MARKER).write_text("[1]")
    elif damage == "file gone":
        (target / "weights").unlink()
    else:
        os.truncate(target / "weights", 500)
    (target / "left over").write_text("x")
    assert not is_complete(target)
    make(target)
    assert is_complete(target) and (target / "weights").stat().st_size == 1000 and not (target / "left over").exists()


def _die_halfway(folder: Path) -> None:
    (folder / "weights").write_bytes(b"x" * 10)
    os._exit(9)


def test_a_killed_process_is_no_hindrance(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=make, args=(tmp_path / "model", _die_halfway))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    assert [p.name for p in tmp_path.iterdir() if ".making-" in p.name] != []  # it did leave something
    assert is_complete(make(tmp_path / "model"))
    assert [p.name for p in tmp_path.iterdir() if ".making-" in p.name] == []


def _make_slowly(folder: Path, log: Path) -> None:
    def slow(target: Path) -> None:
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(0.3)
        fill(target)

    made_once(folder, slow, needed_bytes=0, say=lambda line: print(line, file=log.with_suffix(".said").open("a")))


def test_of_many_processes_one_makes_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [multiprocessing.get_context("fork").Process(target=_make_slowly, args=(tmp_path / "model", log)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert log.read_text() == "made\n" and is_complete(tmp_path / "model")
    assert "waiting" in log.with_suffix(".said").read_text()


def test_no_room_says_how_much_and_where(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"1000000\.0 GB of free space.*COUNTERSIGN_CACHE"):
        made_once(tmp_path / "model", fill, needed_bytes=10**15, say=silent)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BaseModelError, match="Cannot write the model cache.*COUNTERSIGN_CACHE"):
        make(tmp_path / "file" / "model")


def test_the_marker_lists_sizes(tmp_path: Path) -> None:
    assert json.loads((make(tmp_path / "model") / MARKER).read_text()) == {"files": {"config.json": 2, "weights": 1000}}
