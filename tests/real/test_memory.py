"""What a process that reads texts of all lengths holds on to."""

from __future__ import annotations

import psutil

MOST_GROWTH = 110 * 2**20
"""Bytes, over eighty lengths; with all that OpenVINO would keep for each of them it is 180 MiB and more."""


def test_memory_does_not_grow_with_every_new_length(real_model, human_passages):
    words = " ".join(human_passages).split()
    lengths = [20 + (37 * i) % 360 for i in range(120)]
    assert len(set(lengths)) == 120
    process = psutil.Process()
    for number, length in enumerate(lengths):
        real_model.evidence([" ".join(words[:length])])
        if number == 39:  # arrays of all sizes have been made by then
            before = process.memory_info().rss
    assert process.memory_info().rss - before < MOST_GROWTH
