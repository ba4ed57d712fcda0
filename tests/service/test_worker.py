from __future__ import annotations

import threading
from collections.abc import Hashable
from concurrent.futures import Future

import pytest

from service.worker import MAX_RETRY_AFTER, BatchWorker, OnStep, Unavailable
from tests.service.harness import until


class Doubling:
    """Work that waits for `gate` and then doubles its items."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int], group: Hashable, on_step: OnStep) -> list[int]:
        self.batches.append(items)
        while not self.gate.wait(0.005):
            on_step(0, 1)
        return [2 * item for item in items]


def worker_for(run: object, **options: int) -> BatchWorker[int, int]:
    return BatchWorker("test", run, **{"batch_size": 3, "queue_size": 6, **options})  # type: ignore[arg-type]


def outcome(future: Future[int]) -> int:
    return future.result(timeout=10)


def test_order_and_batch_size() -> None:
    work = Doubling()
    worker = worker_for(work)
    entries = worker.submit([1, 2, 3, 4, 5])
    work.gate.set()
    worker.start()
    assert [outcome(entry.future) for entry in entries] == [2, 4, 6, 8, 10]
    assert work.batches == [[1, 2, 3], [4, 5]]
    assert worker.stop(5) and not worker.alive


def test_weights_bound_a_batch_but_one_item_always_fits() -> None:
    work = Doubling()
    work.gate.set()
    worker = worker_for(work, batch_weight=10)
    entries = worker.submit([1, 2, 3, 4, 5], weights=[50, 6, 4, 1, 9])
    worker.start()
    assert [outcome(entry.future) for entry in entries] == [2, 4, 6, 8, 10]
    assert work.batches == [[1], [2, 3], [4, 5]]
    worker.stop(5)


def test_a_full_queue_takes_nothing_of_a_request() -> None:
    worker = worker_for(Doubling())
    worker.submit([1, 2, 3, 4])
    with pytest.raises(Unavailable) as refused:
        worker.submit([5, 6, 7])
    assert refused.value.code == "queue_full" and worker.waiting == 4
    worker.submit([5, 6])


def test_retry_after_grows_with_the_queue_and_is_bounded() -> None:
    worker = worker_for(Doubling(), batch_size=1, queue_size=1_000)
    worker.submit([1])
    few = worker.retry_after()
    worker.submit([1] * 20)
    assert 1 <= few < worker.retry_after() <= MAX_RETRY_AFTER
    worker.submit([1] * 900)
    assert worker.retry_after() == MAX_RETRY_AFTER


def test_too_few_results_are_an_error_not_a_hang() -> None:
    worker = worker_for(lambda items, group, on_step: [])
    (entry,) = worker.submit([1])
    worker.start()
    with pytest.raises(RuntimeError, match="0 results for 1 items"):
        outcome(entry.future)
    worker.stop(5)


def test_abort_fails_the_queue_and_the_running_batch() -> None:
    work = Doubling()
    worker = worker_for(work)
    entries = worker.submit([1, 2, 3, 4])
    worker.start()
    until(lambda: bool(work.batches), "the first batch")
    worker.abort()
    for entry in entries:
        with pytest.raises(Unavailable, match="shutting down"):
            outcome(entry.future)
    with pytest.raises(Unavailable, match="shutting down"):
        worker.submit([5])
    assert worker.stop(5) and work.batches == [[1, 2, 3]]


def test_the_queue_outlives_a_dead_thread() -> None:
    died = threading.Event()

    def run(items: list[int], group: Hashable, on_step: OnStep) -> list[int]:
        if not died.is_set():
            died.set()
            raise SystemExit
        return items

    worker = worker_for(run)
    entries = worker.submit([1, 2, 3, 4])
    worker.start()
    for entry in entries[:3]:
        with pytest.raises(Unavailable) as lost:
            outcome(entry.future)
        assert lost.value.code == "worker_died"
    until(lambda: not worker.alive, "the end of the thread")
    assert worker.waiting == 1 and not entries[3].future.done()
    worker.start()
    assert outcome(entries[3].future) == 4 and worker.alive
    worker.stop(5)
