"""Compiled loops, and where their machine code is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUM = """
import numpy as np
from watermark.statistics.rademacher import RademacherTail
print(RademacherTail(np.arange(1.0, 60.0)).pvalue(500.0))
"""


def run(cache: Path) -> str:
    environment = {**os.environ, "COUNTERSIGN_CACHE": str(cache)}
    ran = subprocess.run([sys.executable, "-c", SUM], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_machine_code_is_kept_for_the_next_process(tmp_path: Path):
    first = run(tmp_path)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "compiled").rglob("*.nbc")}
    assert kept, "nothing was kept"
    assert run(tmp_path) == first
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "compiled").rglob("*.nbc")} == kept, "compiled again"


def test_where_nothing_can_be_kept_it_is_compiled_again(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert run(blocked) == run(tmp_path / "cache")


def test_files_that_a_loss_of_power_emptied_are_made_again(tmp_path: Path):
    first = run(tmp_path)
    for file in (tmp_path / "compiled").rglob("*.nb?"):
        file.write_bytes(b"")
    assert run(tmp_path) == first
