"""Time: a marked token over an unmarked one of the same engine, and a text detected, one at a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from watermark.benchmark.methods import Method, Order
from watermark.evaluation.generation import Progress, WorkFolder
from watermark.sampling.requests import SamplingSettings

BATCH = 8
TOKENS = 32
ROUNDS = 3
DETECTED = 5


def timing(
    method: Method, prompts: Sequence[str], texts: Sequence[str], sampling: SamplingSettings, work: WorkFolder, progress: Progress
) -> dict[str, Any]:
    """Wall-clock seconds, kept on record. Rounds of writing alternate with unmarked ones; a detector is new for every text."""
    known = work.read("timing.jsonl")
    if known:
        return known[-1]
    progress(f"{method.name}: timing", 0, 1)
    orders = [Order(i, prompts[i % len(prompts)], i) for i in range(BATCH)]
    short = replace(sampling, max_new_tokens=TOKENS)
    method.write(orders, replace(sampling, max_new_tokens=2))  # what only the first use costs
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        for marked in (True, False):
            began = time.perf_counter()
            method.write(orders, short, marked=marked)
            seconds[marked].append(time.perf_counter() - began)
    ratios = [m / u for m, u in zip(seconds[True], seconds[False], strict=True)]
    method.detector()(texts[:1], [0])
    each = []
    for i, text in enumerate(texts[:DETECTED]):
        detector = method.detector()
        began = time.perf_counter()
        detector([text], [i])
        each.append(time.perf_counter() - began)
    record = {
        "batch": BATCH,
        "tokens": TOKENS,
        "marked_over_unmarked": statistics.median(ratios),
        "ratios": ratios,
        "seconds_per_token": statistics.median(seconds[True]) / (BATCH * TOKENS),
        "detection_seconds": statistics.median(each),
        "detected": len(each),
    }
    work.append("timing.jsonl", [record])
    progress(f"{method.name}: timing", 1, 1)
    return record
