from __future__ import annotations

import threading
from pathlib import Path

from service.engine import Model
from service.settings import Settings
from tests.fakes import fake_watermarked_model
from tests.service.harness import problem, serving, small_settings, until
from tests.service.wrappers import DyingModel
from watermark.errors import CheckpointError


def test_alive_at_once_and_ready_when_loaded(tmp_path: Path) -> None:
    may_load = threading.Event()

    def load(_settings: Settings) -> Model:
        assert may_load.wait(20)
        return fake_watermarked_model()

    with serving(small_settings(tmp_path), load=load, wait=False) as served:
        try:
            assert served.client.get("/livez").json() == {"status": "alive"}
            assert served.client.get("/").status_code == 200
            status, body = served.readiness()
            assert status == 503 and body["status"] == "loading" and body["model"] == "gemma3-270m"
            problem(served.generate(), 503, "loading")
            problem(served.verify("a"), 503, "loading")
        finally:
            may_load.set()
        until(lambda: served.readiness()[0] == 200, "the model to load")
        status, body = served.readiness()
        assert body["status"] == "ready" and body["model"] == "fake-0" and body["checkpoint"] == "fake-untrained"
        assert served.generate().status_code == 200


def test_a_failed_load_is_told_and_quotes_nothing(tmp_path: Path) -> None:
    def load(_settings: Settings) -> Model:
        raise CheckpointError("damaged: /home/somebody/private")

    failures: list[BaseException] = []
    with serving(small_settings(tmp_path), load=load, on_load_failure=failures.append, wait=False) as served:
        until(lambda: bool(failures), "the failure")
        assert isinstance(failures[0], CheckpointError)
        status, body = served.readiness()
        assert status == 503 and body["status"] == "failed" and "somebody" not in str(body)
        assert "somebody" not in str(problem(served.generate(), 503, "load_failed"))
        assert served.client.get("/livez").status_code == 200


def test_a_loader_that_exits_is_a_failed_load(tmp_path: Path) -> None:
    def load(_settings: Settings) -> Model:
        raise SystemExit(3)

    with serving(small_settings(tmp_path), load=load, wait=False) as served:
        until(lambda: served.readiness()[1]["status"] == "failed", "the failure")


def test_a_dead_generation_worker_drops_readiness_and_is_replaced(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path), DyingModel()) as served:
        before = served.generate(seed=1).json()["results"][0]["text"]
        body = problem(served.generate(prompt=["kill it", "and me"]), 503, "worker_died")
        assert "secret reason" not in str(body)
        status, readiness = served.readiness()
        assert status == 503 and readiness["status"] == "worker_down" and "generation" in readiness["detail"]
        assert served.verify("verification goes on meanwhile").status_code == 200
        assert served.generate(seed=1).json()["results"][0]["text"] == before  # queued meanwhile, done by the new worker
        assert served.readiness()[0] == 200


def test_a_dead_verification_worker_drops_readiness_and_is_replaced(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path), DyingModel()) as served:
        for _ in range(2):
            problem(served.verify("kill it"), 503, "worker_died")
            assert served.readiness()[1]["status"] == "worker_down"
            assert served.generate().status_code == 200
            until(lambda: served.readiness()[0] == 200, "the new worker")
        assert served.verify("fine").status_code == 200
