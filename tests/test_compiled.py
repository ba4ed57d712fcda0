"""Compiled loops, and where their machine code is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config

import watermark
from watermark.compiled import compiled

TAIL = """
import sys
import numpy as np
from numba.core import caching
from watermark.statistics.rademacher import RademacherTail

if sys.argv[1:] == ["full disk"]:
    def full(*args):
        raise OSError(28, "No space left on device")
    caching.IndexDataCacheFile._save_data = full
print(RademacherTail(np.arange(1.0, 60.0)).pvalue(500.0))
"""


def run(cache: Path, *arguments: str) -> str:
    environment = {**os.environ, "COUNTERSIGN_CACHE": str(cache)}
    ran = subprocess.run([sys.executable, "-c", TAIL, *arguments], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def kept(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.nb[ci]")}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache folder after the first run, and what that said."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, run(folder)


def test_machine_code_is_kept_for_the_next_process(first: tuple[Path, str]):
    folder, said = first
    before = kept(folder / "compiled")
    assert before, "nothing was kept"
    assert run(folder) == said
    assert kept(folder / "compiled") == before, "compiled again"


def test_where_nothing_can_be_kept_it_is_compiled_and_nothing_is_left_elsewhere(first: tuple[Path, str], tmp_path: Path):
    package = Path(watermark.__file__).parent
    before = kept(package)
    (blocked := tmp_path / "file").write_text("no folder")
    assert run(blocked) == first[1]
    assert run(tmp_path / "cache", "full disk") == first[1]
    assert kept(package) == before


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"no machine code"])
def test_damaged_files_are_made_again(first: tuple[Path, str], suffix: str, damage: bytes):
    folder, said = first
    for file in folder.rglob(f"*.{suffix}"):
        file.write_bytes(damage)
    assert run(folder) == said
    assert all(file.stat().st_size > len(damage) for file in folder.rglob(f"*.{suffix}"))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes are POSIX")
def test_a_folder_that_others_may_write_to_is_not_used(first: tuple[Path, str], tmp_path: Path):
    """They could run code in a process that holds keys."""
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(0o777)
    assert run(tmp_path) == first[1]
    assert not kept(tmp_path)


def test_numbas_own_settings_are_left_alone():
    before = config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES  # type: ignore[attr-defined]
    compiled(kept)
    assert before == (config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES)  # type: ignore[attr-defined]
