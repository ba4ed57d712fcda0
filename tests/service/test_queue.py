from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.service.harness import Served, problem, serving, small_settings, until
from tests.service.wrappers import GatedModel, GatedVerifier, PoisonedModel


def leave(served: Served, path: str, body: dict[str, object]) -> socket.socket:
    """Send a request as a client that will hang up; close the socket to do so."""
    url = served.client.base_url
    content = json.dumps(body).encode()
    connection = socket.create_connection((url.host, url.port or 80))
    head = f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def test_waiting_prompts_share_a_batch_and_answers_are_as_if_alone(tmp_path: Path) -> None:
    model = GatedModel()
    with serving(small_settings(tmp_path), model) as served, ThreadPoolExecutor(8) as pool:
        first = pool.submit(served.generate, prompt="first", seed=0)
        until(lambda: len(model.batches) == 1, "the first batch")
        issuers = ["default", "newsroom", "default", "newsroom"]
        waiting = [pool.submit(served.generate, prompt="same", seed=5, issuer=issuer, strength=1.0) for issuer in issuers]
        until(lambda: served.readiness()[1]["waiting_prompts"] == 4, "four waiting prompts")
        model.gate.set()
        assert first.result().status_code == 200
        together = [answer.result().json()["results"][0] for answer in waiting]
        assert model.batches == [["first"], ["same"] * 4]
        alone = {issuer: served.generate(prompt="same", seed=5, issuer=issuer).json()["results"][0]["text"] for issuer in set(issuers)}
    assert [result["text"] for result in together] == [alone[issuer] for issuer in issuers]
    assert alone["default"] != alone["newsroom"]


def test_a_full_queue_refuses_at_once_and_all_or_nothing(tmp_path: Path) -> None:
    model = GatedModel()
    with serving(small_settings(tmp_path), model) as served, ThreadPoolExecutor(4) as pool:
        running = pool.submit(served.generate)
        until(lambda: len(model.batches) == 1, "the first batch")
        queued = pool.submit(served.generate, prompt=["a"] * 6)
        until(lambda: served.readiness()[1]["waiting_prompts"] == 6, "six waiting prompts")
        refused = served.generate(prompt=["b"] * 3)
        assert problem(refused, 503, "queue_full") and refused.elapsed.total_seconds() < 1
        assert served.readiness()[1]["waiting_prompts"] == 6
        last = pool.submit(served.generate, prompt=["c"] * 2)
        until(lambda: served.readiness()[1]["waiting_prompts"] == 8, "a full queue")
        problem(served.generate(), 503, "queue_full")
        assert served.verify("there is room for a text").status_code == 200
        model.gate.set()
        assert [answer.result().status_code for answer in (running, queued, last)] == [200, 200, 200]


def test_verification_does_not_wait_behind_generation(tmp_path: Path) -> None:
    model = GatedModel()
    with serving(small_settings(tmp_path), model) as served, ThreadPoolExecutor(1) as pool:
        running = pool.submit(served.generate)
        until(lambda: len(model.batches) == 1, "the batch")
        assert served.verify("checked meanwhile").status_code == 200
        assert not running.done()
        model.gate.set()
        assert running.result().status_code == 200


def test_texts_share_a_call_only_when_tested_alike_and_by_weight(tmp_path: Path) -> None:
    model = GatedVerifier()
    with serving(small_settings(tmp_path, verify_batch_characters=1_000), model) as served, ThreadPoolExecutor(8) as pool:
        first = pool.submit(served.verify, "wait")
        assert model.holding.wait(10)
        answers = []
        for count, (text, options) in enumerate(
            [
                (["alike 1", "alike 2"], {}),
                ("alike 3", {}),
                ("other", {"issuers": ["newsroom"]}),
                ("public", {"issuers": ["newsroom"], "detail": "public"}),
                (["x" * 600, "y" * 600], {"issuers": ["newsroom"], "detail": "public"}),
            ]
        ):
            answers.append(pool.submit(served.verify, text, **options))
            until(lambda count=count: served.readiness()[1]["waiting_texts"] >= [2, 3, 4, 5, 7][count], "the text to be queued")
        model.gate.set()
        assert all(answer.result().status_code == 200 for answer in [first, *answers])
    assert model.verified == [["wait"], ["alike 1", "alike 2", "alike 3"], ["other"], ["public", "x" * 600], ["y" * 600]]


def test_a_client_that_leaves_the_queue_frees_its_places(tmp_path: Path) -> None:
    model = GatedModel()
    with serving(small_settings(tmp_path), model) as served, ThreadPoolExecutor(2) as pool:
        running = pool.submit(served.generate)
        until(lambda: len(model.batches) == 1, "the first batch")
        gone = leave(served, "/generate", {"prompt": ["left", "left"], "max_new_tokens": 5})
        until(lambda: served.readiness()[1]["waiting_prompts"] == 2, "two waiting prompts")
        gone.close()
        until(lambda: served.readiness()[1]["waiting_prompts"] == 0, "the places to be freed")
        model.gate.set()
        assert running.result().status_code == 200
        assert served.generate(prompt="next").status_code == 200
    assert model.batches == [["Hello"], ["next"]]


def test_a_batch_is_cancelled_only_when_all_its_clients_left(tmp_path: Path) -> None:
    model = GatedModel()
    with serving(small_settings(tmp_path), model) as served, ThreadPoolExecutor(2) as pool:
        block = leave(served, "/generate", {"prompt": "block", "max_new_tokens": 5})
        until(lambda: len(model.batches) == 1, "the first batch")
        gone = leave(served, "/generate", {"prompt": "gone", "max_new_tokens": 5})
        until(lambda: served.readiness()[1]["waiting_prompts"] == 1, "a waiting prompt")
        stays = pool.submit(served.generate, prompt="stays")
        until(lambda: served.readiness()[1]["waiting_prompts"] == 2, "two waiting prompts")
        block.close()  # alone in its batch: cancelled, and the next batch begins
        assert model.cancelled.wait(10)
        until(lambda: len(model.batches) == 2, "the second batch")
        model.cancelled.clear()
        gone.close()
        assert not model.cancelled.wait(0.3)  # the other client of the batch is still there
        model.gate.set()
        assert stays.result().status_code == 200
    assert model.batches == [["block"], ["gone", "stays"]]


@pytest.mark.parametrize("path", ["/generate", "/verify"])
def test_a_poisonous_request_fails_alone(tmp_path: Path, path: str) -> None:
    model = PoisonedModel()
    field = {"/generate": "prompt", "/verify": "text"}[path]

    def send(text: str | list[str]) -> httpx.Response:
        body = {field: text, **({"max_new_tokens": 10, "seed": 3} if path == "/generate" else {})}
        return served.client.post(path, json=body)

    with serving(small_settings(tmp_path), model) as served, ThreadPoolExecutor(4) as pool:
        alone = send("good").json()["results"]
        model.gate.clear()
        blocker = pool.submit(served.generate)
        until(lambda: model.batches[-1:] == [["Hello"]], "the worker to be busy")
        answers = [pool.submit(send, text) for text in ("good", "poison", "good")]
        if path == "/generate":
            until(lambda: served.readiness()[1]["waiting_prompts"] == 3, "three waiting prompts")
        model.gate.set()
        good, bad, other = [answer.result() for answer in answers]
        assert blocker.result().status_code == 200
        assert good.json()["results"] == other.json()["results"] == alone
        body = problem(bad, 500, "internal")
        assert body["error_id"] and "poison" not in bad.text and "digest" not in bad.text
        body = problem(send(["good", "poison"]), 500, "internal")
        assert body["item"] == 1
        assert served.readiness()[0] == 200
    if path == "/generate":
        assert any(sorted(batch) == ["good", "good", "poison"] for batch in model.batches), "they were to share a batch"
        assert ["poison"] in model.batches, "and to be repeated alone"


def test_an_error_outside_of_the_workers_is_answered_too(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path), PoisonedModel()) as served:
        answer = served.generate(prompt="venom")
        assert problem(answer, 500, "internal")["error_id"] and "venom" not in answer.text and "digest" not in answer.text
        assert answer.headers["x-request-id"] and served.generate().status_code == 200


def test_hundreds_of_aborted_requests_and_still_alive(tmp_path: Path) -> None:
    model = GatedModel()
    with serving(small_settings(tmp_path), model) as served:
        threads = []
        for i in range(200):
            connection = leave(served, "/generate", {"prompt": f"p{i}", "max_new_tokens": 3})
            threads.append(threading.Timer(0.001 * (i % 20), connection.close))
            threads[-1].start()
        for thread in threads:
            thread.join()
        model.gate.set()
        until(lambda: served.readiness()[1]["waiting_prompts"] == 0, "the queue to empty")
        assert served.generate().status_code == 200
        assert served.readiness()[0] == 200
