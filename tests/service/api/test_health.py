from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.runtime import Runtime
from tests.service.fake_engine import FakeEngine
from tests.service.harness import Served, problem, serving, small_settings, until
from watermark.errors import CheckpointError


def test_alive_at_once_and_ready_when_loaded(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.loading.clear()
    with serving(small_settings(tmp_path), engine, wait=False) as served:
        assert served.client.get("/livez").json() == {"status": "alive"}
        assert served.client.get("/").status_code == 200
        status, body = served.readiness()
        assert status == 503 and body["status"] == "loading" and body["model"] == "gemma3-270m" and body["checkpoint"] is None
        problem(served.generate(), 503, "loading")
        problem(served.verify("a"), 503, "loading")
        assert served.client.get("/metrics").status_code == 200
        served.on_loop(engine.loading.set)
        until(lambda: served.readiness()[0] == 200, "the model to load")
        status, body = served.readiness()
        assert body["status"] == "ready" and body["model"] == "fake-model" and body["checkpoint"] == "fake-checkpoint"
        assert body["authentication"] is False and body["max_new_tokens"] == 400
        assert served.generate().status_code == 200


def test_a_failed_load_is_told_and_quotes_nothing(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    engine = FakeEngine(failure=CheckpointError("damaged: /home/somebody/private"))
    with serving(small_settings(tmp_path), engine, on_load_failure=failures.append, wait=False) as served:
        until(lambda: bool(failures), "the failure")
        assert isinstance(failures[0], CheckpointError)
        status, body = served.readiness()
        assert status == 503 and body["status"] == "failed" and "somebody" not in str(body)
        assert "somebody" not in str(problem(served.generate(), 503, "load_failed"))
        assert served.client.get("/livez").status_code == 200


def test_another_master_key_is_a_failed_start(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    failures: list[BaseException] = []
    wrong = settings.model_copy(update={"master_key": SecretStr("00" * 32)})
    with serving(settings, wait=False) as served:
        until(lambda: served.readiness()[0] == 200, "the start with the right key")

    async def start() -> None:
        async with Runtime(wrong, FakeEngine(), on_failure=failures.append).running():
            while not failures:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(start(), 10))
    assert type(failures[0]).__name__ == "MasterKeyError"


def test_a_dead_worker_drops_readiness_until_it_is_back(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path)) as served, ThreadPoolExecutor(1) as pool:
        served.engine.restart_seconds = 0.5
        dying = asyncio.run_coroutine_threadsafe(served.engine.die(), served.loop)
        until(lambda: served.readiness()[1]["status"] == "worker_down", "the probe to notice")
        assert served.readiness()[0] == 503 and served.client.get("/livez").status_code == 200
        dying.result(10)
        until(lambda: served.readiness()[0] == 200, "the worker to be back")
        assert pool.submit(served.generate).result().status_code == 200


def test_draining_refuses_new_work_and_finishes_the_old(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path)) as served, ThreadPoolExecutor(1) as pool:
        with served.holding(after=2):
            running = pool.submit(served.generate)
            until(lambda: served.unfinished == 1, "a running prompt")
            served.runtime.begin_drain()
            until(lambda: served.readiness()[1]["status"] == "draining", "the drain")
            assert served.readiness()[0] == 503
            problem(served.generate(), 503, "shutting_down")
            problem(served.verify("a"), 503, "shutting_down")
            assert served.client.get("/livez").status_code == 200
        answer = running.result()
        assert answer.status_code == 200 and answer.json()["results"][0]["receipt_id"]


def test_what_outlasts_the_drain_is_cancelled_with_a_clear_answer(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, drain_seconds=0.2)) as served, ThreadPoolExecutor(1) as pool, served.holding():
        running = pool.submit(served.generate)
        until(lambda: served.unfinished == 1, "a waiting prompt")
        began = time.monotonic()
        served.runtime.begin_drain()
        problem(running.result(), 503, "shutting_down")
        assert 0.2 <= time.monotonic() - began < 3


def _hide(tmp_path: Path) -> None:
    for file in tmp_path.glob("countersign.db*"):
        if not file.name.endswith(".lock"):
            file.rename(tmp_path / f"away-{file.name}")


def _bring_back(tmp_path: Path) -> None:
    for file in tmp_path.glob("away-*"):
        file.rename(tmp_path / file.name.removeprefix("away-"))


def test_a_storage_that_is_gone_is_a_clear_refusal_until_it_is_back(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path)) as served:
        text = served.generate(max_new_tokens=40).json()["results"][0]["text"]
        before = len(served.engine.submitted)
        _hide(tmp_path)
        for answer in (
            served.generate(),
            served.generate(stream=True),
            served.verify(text),
            served.client.get("/issuers"),
            served.client.get("/audit"),
            served.client.get("/signing-keys"),
            served.client.get("/receipts/rcp_AAAAAAAAAAAAAAAAAAAAAA"),
            served.client.post("/issuers", json={"name": "acme"}),
        ):
            assert str(tmp_path) not in str(problem(answer, 503, "storage_unavailable"))
        assert len(served.engine.submitted) == before, "it was generated although nothing could be kept"
        until(lambda: served.readiness()[1]["status"] == "storage_down", "readiness to tell the truth", 3)
        assert served.client.get("/livez").status_code == 200 and served.client.get("/metrics").status_code == 200
        _bring_back(tmp_path)
        until(lambda: served.readiness()[0] == 200, "the storage to be back", 3)
        assert served.verify(text).json()["results"][0]["verdict"] == "marked"
        assert served.generate().status_code == 200


def test_a_storage_that_goes_while_a_text_is_written_is_told(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path)) as served, ThreadPoolExecutor(1) as pool:
        with served.holding(after=3):
            running = pool.submit(served.generate)
            until(lambda: served.unfinished == 1, "a running prompt")
            _hide(tmp_path)
        problem(running.result(), 503, "storage_unavailable")
        _bring_back(tmp_path)
        assert served.generate().status_code == 200


def test_a_service_starts_without_its_storage_and_waits_for_it(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    folder = tmp_path / "not-yet"
    later = settings.model_copy(update={"database_url": SecretStr(f"sqlite:///{folder / 'countersign.db'}")})
    folder.write_text("a file where a folder should be")

    async def start() -> list[str]:
        runtime = Runtime(later, FakeEngine())
        seen = []
        async with runtime.running():
            for _ in range(200):
                seen.append((await runtime.readiness()).status)
                if seen[-1] == "ready":
                    break
                if seen[-1] == "storage_down" and folder.is_file():
                    folder.unlink()
                await asyncio.sleep(0.02)
        return seen

    seen = asyncio.run(start())
    assert "storage_down" in seen and seen[-1] == "ready"


def test_a_probe_does_not_wait_for_a_storage_that_hangs(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = served.runtime.require_storage()
    monkeypatch.setattr(type(storage.database), "ping", lambda self: time.sleep(2))
    time.sleep(1.1)  # the last answer is believed that long
    began = time.monotonic()
    status, body = served.readiness()
    assert status == 503 and body["status"] == "storage_down" and time.monotonic() - began < 1.5
