from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.service.harness import problem, serving, small_settings, until
from tests.service.wrappers import GatedModel


def test_draining_refuses_new_work_and_finishes_the_old(tmp_path: Path) -> None:
    model = GatedModel()
    with serving(small_settings(tmp_path), model) as served, ThreadPoolExecutor(2) as pool:
        running = pool.submit(served.generate)
        until(lambda: len(model.batches) == 1, "the first batch")
        queued = pool.submit(served.generate, prompt="queued")
        until(lambda: served.readiness()[1]["waiting_prompts"] == 1, "a waiting prompt")
        served.runtime.begin_drain()
        status, body = served.readiness()
        assert status == 503 and body["status"] == "draining"
        problem(served.generate(), 503, "shutting_down")
        problem(served.verify("a"), 503, "shutting_down")
        assert served.client.get("/livez").status_code == 200
        model.gate.set()
        assert running.result().status_code == queued.result().status_code == 200


def test_a_signal_lets_running_requests_finish(tmp_path: Path) -> None:
    model = GatedModel()
    with serving(small_settings(tmp_path), model) as served, ThreadPoolExecutor(2) as pool:
        running = pool.submit(served.generate)
        until(lambda: len(model.batches) == 1, "the first batch")
        served.server.handle_exit(signal.SIGINT, None)
        until(lambda: served.runtime.draining, "the drain to begin")
        time.sleep(0.2)
        assert not running.done()
        model.gate.set()
        assert running.result().status_code == 200


def test_what_outlasts_the_drain_is_cancelled_with_a_clear_answer(tmp_path: Path) -> None:
    model = GatedModel()
    with serving(small_settings(tmp_path, drain_seconds=0.3), model) as served, ThreadPoolExecutor(2) as pool:
        running = pool.submit(served.generate)
        until(lambda: len(model.batches) == 1, "the first batch")
        queued = pool.submit(served.generate, prompt="queued")
        until(lambda: served.readiness()[1]["waiting_prompts"] == 1, "a waiting prompt")
        began = time.monotonic()
        served.server.handle_exit(signal.SIGINT, None)
        problem(running.result(), 503, "shutting_down")
        problem(queued.result(), 503, "shutting_down")
        assert 0.3 <= time.monotonic() - began < 3
    assert model.cancelled.is_set() and model.batches == [["Hello"]]
