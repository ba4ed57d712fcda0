"""`kill -9` of a worker process under the real engine: everybody is told, and the service is back by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.engine.engine import BatchingEngine
from service.engine.nursery import Nursery
from tests.service.engine.fake_models import faulty
from tests.service.harness import Served, problem, serving, small_settings, until

BACK_SECONDS = 10.0
SLOW = {"prompt": "slow and steady", "max_new_tokens": 200, "min_new_tokens": 200, "seed": 1}
"""A tenth of a second a token."""


@pytest.fixture
def served(tmp_path: Path, nursery: Nursery) -> Iterator[Served]:
    # A pause long enough for readiness to be looked at while the worker is gone; the default is shorter.
    settings = small_settings(tmp_path, threads=1, restart_seconds=0.5, log_level="ERROR")
    with serving(settings, BatchingEngine(settings, faulty, nursery)) as running:
        yield running


def kill(served: Served, role: str) -> None:
    engine = served.runtime.engine
    assert isinstance(engine, BatchingEngine)
    pid = engine.processes()[role]
    assert pid
    os.kill(pid, signal.SIGKILL)


def streamed(served: Served) -> tuple[list[tuple[str, dict[str, Any]]], float]:
    """Events of a stream whose worker is killed after its second piece, and when it ended (monotonic seconds)."""
    events: list[tuple[str, dict[str, Any]]] = []
    with served.client.stream("POST", "/generate", json={**SLOW, "stream": True}) as answer:
        assert answer.status_code == 200
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
                if len(events) == 2:
                    kill(served, "generation")
    return events, time.monotonic()


def test_the_generating_worker_is_killed_mid_stream(served: Served) -> None:
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(served.generate, **SLOW) for _ in range(2)]
        until(lambda: served.unfinished == 2, "the others to be generated")
        events, ended = streamed(served)
        assert [name for name, _ in events[:2]] == ["piece", "piece"]
        name, data = events[-1]
        assert name == "error" and data["code"] == "worker_died" and data["status"] == 503
        for other in others:
            problem(other.result(), 503, "worker_died")
        status, body = served.readiness()
        assert status == 503 and body["status"] == "worker_down"
        assert served.client.get("/livez").status_code == 200
        assert served.verify("a text").status_code == 200  # the other worker knows nothing of it
        until(lambda: served.readiness()[0] == 200, "the service to be ready again", BACK_SECONDS)
        assert time.monotonic() - ended < BACK_SECONDS
    assert served.unfinished == 0
    assert served.generate().status_code == 200
    assert "countersign_worker_restarts_total 1.0" in served.client.get("/metrics").text


def test_what_waited_is_done_by_the_next_worker(served: Served) -> None:
    places = served.runtime.settings.batch_size
    with ThreadPoolExecutor(places + 1) as pool:
        running = [pool.submit(served.generate, **SLOW) for _ in range(places)]
        until(lambda: served.runtime.engine.stats().running_prompts == places, "a full batch")
        waiting = pool.submit(served.generate, seed=7)
        until(lambda: served.runtime.engine.stats().waiting_prompts == 1, "a waiting prompt")
        kill(served, "generation")
        for each in running:
            problem(each.result(), 503, "worker_died")
        assert waiting.result(BACK_SECONDS).json()["results"][0]["text"] == text(served.generate(seed=7))


def text(answer: httpx.Response) -> str:
    return answer.json()["results"][0]["text"]


def test_the_verifying_worker_is_killed(served: Served) -> None:
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(served.verify, "hang " * 20)
        time.sleep(0.3)
        kill(served, "verification")
        problem(lost.result(), 503, "worker_died")
        until(lambda: served.readiness()[0] == 200, "the service to be ready again", BACK_SECONDS)
    assert served.verify("a text").status_code == 200
    assert served.generate().status_code == 200


def test_the_nursery_is_killed_with_its_workers(tmp_path: Path) -> None:
    """All that has the model in memory is gone: it is loaded again."""
    settings = small_settings(tmp_path, threads=1, log_level="ERROR")
    with serving(settings, BatchingEngine(settings, faulty), wait=False) as served:
        until(lambda: served.readiness()[0] == 200, "the model to be loaded", 60)
        for role in ("nursery", "generation", "verification"):
            kill(served, role)
        until(lambda: served.readiness()[0] == 503, "readiness to drop")
        until(lambda: served.readiness()[0] == 200, "the service to be ready again", 60)
        assert served.generate().status_code == 200
