"""Clients of the load test, as locust runs them: each is a person who asks, waits for the answer, thinks, and asks again.

Importing locust replaces blocking calls of this process by cooperative ones (gevent); only the load test imports this module.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import gevent
from locust import User, task
from requests import RequestException, Response, Session

from benchmarks.load_plan import Generate, Plan, Pool, Verify
from benchmarks.load_service import Service
from benchmarks.load_summary import Record

TIMEOUT = 330
"""Seconds; longer than the service's own deadline, whose answer is to be seen."""


def client_class(service: Service, record: Record, seed: int, verify_share: float) -> type[User]:
    """Each instance is the next client, with its own plan."""
    numbers, pool = itertools.count(), Pool()

    class Client(User):
        def on_start(self) -> None:
            self.plan = Plan(seed, next(numbers), verify_share, pool)
            self.session = Session()  # not locust's, which would turn what went wrong into answers without a status
            self.session.headers.update(service.headers)
            gevent.sleep(self.plan.pause())

        def wait_time(self) -> float:
            return self.plan.pause()

        @task
        def ask(self) -> None:
            step = self.plan.next()
            try:
                if isinstance(step, Verify):
                    self._verify(step)
                elif step.stream:
                    self._stream(step)
                else:
                    self._generate(step)
            except (RequestException, KeyError, ValueError, TypeError) as error:  # no answer, or not the documented one
                record.failed(step.kind, type(error).__name__)

        def _generate(self, step: Generate) -> None:
            began = time.monotonic()
            answer = self._post("/generate", _body(step))
            if self._refused(step.kind, answer):
                return
            content = answer.json()
            record.answered(step.kind, answer.status_code, time.monotonic() - began)
            self._keep(content["results"][0], content["timings"])

        def _stream(self, step: Generate) -> None:
            began = time.monotonic()
            with self._post("/generate", {**_body(step), "stream": True}, stream=True) as answer:
                if self._refused(step.kind, answer):
                    return
                result, pieces = None, 0
                for event, data in _events(answer):
                    if event == "piece":
                        pieces += 1
                        if pieces == 1:
                            record.timed("first_piece", time.monotonic() - began)
                        if pieces == step.leave_after:
                            record.answered(step.kind, answer.status_code, time.monotonic() - began)
                            return
                    elif event == "result":
                        result = data
                    elif event == "done" and result is not None:
                        record.answered(step.kind, answer.status_code, time.monotonic() - began)
                        self._keep(result, data["timings"])
                        return
                    elif event == "error":
                        record.failed(step.kind, f"error event {data['code']}")
                        return
            if step.leave_after:  # the text was over before the client lost interest
                record.answered(step.kind, answer.status_code, time.monotonic() - began)
            else:
                record.failed(step.kind, "the stream broke off")

        def _keep(self, result: dict[str, Any], timings: dict[str, Any]) -> None:
            record.timed("queue", timings["waited_seconds"])
            record.timed("per_token", timings["worked_seconds"] / max(1, result["usage"]["new_tokens"]))
            if result["marking"]["watermark"]:
                pool.add(result["text"])

        def _verify(self, step: Verify) -> None:
            texts = [written.text for written in step.texts]
            began = time.monotonic()
            answer = self._post("/verify", {"text": texts if len(texts) > 1 else texts[0]})
            if self._refused(step.kind, answer):
                return
            results = answer.json()["results"]
            record.answered(step.kind, answer.status_code, time.monotonic() - began)
            for written, result in zip(step.texts, results, strict=True):
                record.judged(written.marked, result["verdict"])

        def _post(self, path: str, body: dict[str, Any], stream: bool = False) -> Response:
            return self.session.post(service.url + path, json=body, timeout=TIMEOUT, stream=stream)

        def _refused(self, kind: str, answer: Response) -> bool:
            if answer.status_code == 200:
                return False
            pause = record.refused(kind, answer.status_code, answer.json()["code"], answer.headers.get("Retry-After"))
            if pause is not None:
                gevent.sleep(pause)
            return True

    return Client


def _body(step: Generate) -> dict[str, Any]:
    return {"prompt": step.prompt, "max_new_tokens": step.new_tokens, "seed": step.seed}


def _events(answer: Response) -> Iterator[tuple[str, dict[str, Any]]]:
    event = ""
    for line in answer.iter_lines(chunk_size=None):  # type: ignore[arg-type]  # as it comes; requests allows it
        name, _, value = line.decode().partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, json.loads(value)
