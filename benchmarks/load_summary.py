"""What a load test saw, and what it comes to. Seconds throughout; milliseconds in what is printed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ANNOUNCED = (429, 503)
FAILED = "failed"
"""In place of a status: no answer, or one that cannot be used."""


@dataclass(frozen=True)
class Sample:
    """A moment of the service."""

    at: float
    """Seconds since the load began."""
    running_prompts: int
    waiting_prompts: int
    memory: int
    """Proportional set size of all its processes, bytes."""


@dataclass
class Record:
    """Filled by the clients while they run."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind of request and status."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Announced ones, by code."""
    errors: Counter[str] = field(default_factory=Counter)
    """All other failures, in words."""
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """What took how long, by name."""
    verdicts: Counter[tuple[bool, str]] = field(default_factory=Counter)
    """By whether the text was marked, and what was said."""

    def answered(self, kind: str, status: int, seconds: float) -> None:
        self.answers[kind, str(status)] += 1
        self.seconds[kind].append(seconds)

    def refused(self, kind: str, status: int, code: str, retry_after: str | None) -> float | None:
        """Seconds that the client must wait, or None where the refusal is an error."""
        self.answers[kind, str(status)] += 1
        if status in ANNOUNCED and retry_after is not None and retry_after.isdigit() and int(retry_after) > 0:
            self.refusals[code] += 1
            return float(retry_after)
        self.errors[f"{kind}: {status} {code}"] += 1
        return None

    def failed(self, kind: str, why: str) -> None:
        self.answers[kind, FAILED] += 1
        self.errors[f"{kind}: {why}"] += 1

    def timed(self, name: str, seconds: float) -> None:
        self.seconds[name].append(seconds)

    def judged(self, marked: bool, verdict: str) -> None:
        self.verdicts[marked, verdict] += 1


def latencies(seconds: Sequence[float]) -> dict[str, float | int]:
    """Count, percentiles and maximum, in milliseconds."""
    if not seconds:
        return {"count": 0}
    values = np.quantile(seconds, [0.5, 0.95, 0.99, 1.0]) * 1000
    return {
        "count": len(seconds),
        **{name: round(float(value), 1) for name, value in zip(("p50", "p95", "p99", "max"), values, strict=True)},
    }


def requests(record: Record) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (kind, status), count in sorted(record.answers.items()):
        found.setdefault(kind, {})[status] = count
    return found


def correctness(record: Record) -> dict[str, Any]:
    """Marks found in marked texts, and in texts that carry none."""
    verdicts = record.verdicts
    marked = sum(count for (is_marked, _), count in verdicts.items() if is_marked)
    return {
        "marked_texts": marked,
        "marked_found": verdicts[True, "marked"],
        "unmarked_texts": verdicts.total() - marked,
        "unmarked_called_marked": verdicts[False, "marked"],
    }


def saturation(samples: Iterable[Sample], batch_size: int, since: float) -> dict[str, float]:
    """Shares of the moments from `since` on in which the batch was full, and prompts waited."""
    later = [sample for sample in samples if sample.at >= since]
    if not later:
        return {}
    return {
        "full_batch": round(float(np.mean([sample.running_prompts >= batch_size for sample in later])), 3),
        "queue_not_empty": round(float(np.mean([sample.waiting_prompts > 0 for sample in later])), 3),
    }


def memory(samples: Sequence[Sample], minute_one: float) -> dict[str, Any]:
    """MiB at minute one (`minute_one` seconds after the load began), at most, at the end, and every half minute: each the median of ten
    seconds around it."""
    if not samples:
        return {}
    end = samples[-1].at

    def near(at: float) -> float:
        around = [sample.memory for sample in samples if abs(sample.at - at) <= 5] or [min(samples, key=lambda s: abs(s.at - at)).memory]
        return float(np.median(around)) / 2**20

    first, last = near(minute_one), near(end - 5)
    return {
        "minute_one_mib": round(first, 1),
        "end_mib": round(last, 1),
        "highest_mib": round(max(sample.memory for sample in samples) / 2**20, 1),
        "end_over_minute_one": round(last / first, 4),
        "every_half_minute_mib": [round(near(at)) for at in range(0, int(end) + 1, 30)],
    }
