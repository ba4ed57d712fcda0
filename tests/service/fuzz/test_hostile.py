"""Ten thousand requests that are malformed, cut off or too much, from another process: the service answers what can be answered, stays
ready, and keeps nothing of them."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.service.fuzz.requests import KINDS
from tests.service.harness import Served, serving, small_settings, until

COUNT = 10_000
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Held:
    """What the service has in hand."""

    tasks: int
    threads: int
    files: int
    connections: int

    @classmethod
    def by(cls, served: Served) -> Held:
        tasks = served.on_loop(lambda: len(asyncio.all_tasks()))
        connections = len(served.server.server_state.connections)
        return cls(tasks, threading.active_count(), len(os.listdir("/proc/self/fd")), connections)


def attack(served: Served, seed: int, count: int) -> dict[str, Counter[str]]:
    command = [sys.executable, "-m", "tests.service.fuzz.hostile", str(served.client.base_url.port), str(seed), str(count)]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {kind: Counter(counts) for kind, counts in json.loads(printed).items()}


def memory() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def test_ten_thousand_hostile_requests(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, queue_size=64)) as served:
        attack(served, 1, COUNT // 5)  # threads, connections of the database and caches come to their size
        before, weight = Held.by(served), memory()
        seen = attack(served, 2, COUNT - COUNT // 5)
        assert set(seen) == {kind.__name__ for kind in KINDS}
        totals: Counter[str] = sum(seen.values(), Counter())
        assert totals["sent"] == COUNT - COUNT // 5
        assert totals["no answer"] == 0, seen
        assert not [status for status in totals if status.startswith("5") and status != "503"], seen
        for kind in ("bad_json", "wrong_types", "wrong_headers", "too_large", "reset_mid_stream"):
            assert seen[kind].total() == 2 * seen[kind]["sent"], f"each of them is answered: {kind} in {seen}"
        for status in ("200", "400", "404", "405", "413", "415", "421", "422"):
            assert totals[status], f"no {status} in {seen}"

        until(lambda: served.unfinished == 0, "all places to be given back", 60)
        until(lambda: not served.server.server_state.connections, "all connections to be closed", 60)
        assert served.readiness()[0] == 200
        assert served.generate().status_code == served.verify("a").status_code == 200
        after = Held.by(served)
        assert after.tasks <= before.tasks + 2, (before, after)
        # Pools of threads and of database connections breathe; what each request left behind would be thousands.
        assert after.threads <= before.threads + 46 and after.files <= before.files + 16, (before, after)
        # Captured log records and the fake engine's own memory of what it wrote come to about 45 MiB; a kept request would be more.
        assert memory() - weight < 100 * 2**20
