"""Files that were read give their memory back, and nothing that is computed changes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.test_base_model import tiny
from watermark.inference.openvino.convert import convert
from watermark.inference.openvino.lm import OpenVinoLM


def resident(folder: Path) -> int:
    """KiB of the files in `folder` that this process has in memory."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("Rss:"):
            found += int(line.split()[1]) if inside else 0
        elif "-" in line.split(" ", 1)[0]:
            inside = str(folder) in line
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
@torch.inference_mode()
def test_released_files_leave_memory_and_come_back_when_read(tmp_path: Path):
    lm = tiny("llama")
    convert(lm, tmp_path)
    fast, ids = OpenVinoLM(tmp_path, lm.tokenizer, "llama"), [0, 5, 6, 7]
    before = fast.read_states([ids], (0, 1, 2)).clone()
    assert resident(tmp_path) > 0
    fast.release()
    assert resident(tmp_path) == 0
    assert torch.equal(fast.read_states([ids], (0, 1, 2)), before)
