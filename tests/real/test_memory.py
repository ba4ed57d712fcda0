"""What a process that reads texts of all lengths holds on to."""

from __future__ import annotations

import time

import psutil

from benchmarks.load_service import running
from benchmarks.service_footprint import memory, work

MOST_GROWTH = 110 * 2**20
"""Bytes, over eighty lengths; with all that OpenVINO would keep for each of them it is 180 MiB and more."""

GIVEN_BACK = 70
"""MiB."""


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


def test_a_service_at_rest_gives_back_what_it_can_read_again():
    """The files of weights that tokens were looked up in: 100 MiB and more for the worker that wrote them."""
    with running(None) as service:
        work(service, requests=2)
        busy = memory(service)["generation"]
        deadline = time.monotonic() + 20
        while memory(service)["generation"] > busy - GIVEN_BACK and time.monotonic() < deadline:
            time.sleep(0.5)
        assert memory(service)["generation"] <= busy - GIVEN_BACK
        work(service, requests=1)
