from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.service.fake_engine import FakeEngine
from tests.service.harness import problem, serving, small_settings, until


def test_draining_refuses_new_work_and_finishes_the_old(tmp_path: Path) -> None:
    engine = FakeEngine(batch_size=1)
    with serving(small_settings(tmp_path), engine) as served, ThreadPoolExecutor(2) as pool:
        with served.holding():
            running = pool.submit(served.generate)
            queued = pool.submit(served.generate, prompt="queued")
            until(lambda: served.readiness()[1]["waiting_prompts"] >= 1 and served.unfinished == 2, "a waiting prompt")
            served.runtime.begin_drain()
            status, body = served.readiness()
            assert status == 503 and body["status"] == "draining"
            problem(served.generate(), 503, "shutting_down")
            problem(served.verify("a"), 503, "shutting_down")
            assert served.client.get("/livez").status_code == 200
        assert running.result().status_code == queued.result().status_code == 200


def test_a_signal_lets_running_requests_finish(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path)) as served, ThreadPoolExecutor(2) as pool:
        with served.holding():
            running = pool.submit(served.generate)
            until(lambda: served.unfinished == 1, "the generation to begin")
            served.server.handle_exit(signal.SIGINT, None)
            until(lambda: served.runtime.draining, "the drain to begin")
            time.sleep(0.2)
            assert not running.done()
        assert running.result().status_code == 200


def test_what_outlasts_the_drain_is_cancelled_with_a_clear_answer(tmp_path: Path) -> None:
    with (
        serving(small_settings(tmp_path, drain_seconds=0.3), FakeEngine(batch_size=1)) as served,
        ThreadPoolExecutor(2) as pool,
        served.holding(),
    ):
        running = pool.submit(served.generate)
        queued = pool.submit(served.generate, prompt="queued")
        until(lambda: served.unfinished == 2, "both to wait")
        began = time.monotonic()
        served.server.handle_exit(signal.SIGINT, None)
        problem(running.result(), 503, "shutting_down")
        problem(queued.result(), 503, "shutting_down")
        assert 0.3 <= time.monotonic() - began < 3
