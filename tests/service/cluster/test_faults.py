"""Replicas that die, are full, or are replaced, while clients go on asking."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
import ray
from ray import serve
from ray.util import list_named_actors

from service.cluster.application import Replicas, application
from service.cluster.engine import ClusterEngine
from service.settings import Settings
from tests.service.cluster.fakes import fake_app
from tests.service.engine.harness import Asked, running
from tests.service.engine.small import small_engine
from tests.service.harness import small_settings, until

APP = "faulty"
CLIENTS = 3
PAUSE = 0.1
"""Seconds between a client's requests: replicas that start need the processor too."""
REPLICAS = {"ingress": 1, "generation": 1, "verification": 2}


def the_application(settings: Settings, release: str = "1") -> serve.Application:
    values = {name: getattr(settings, name) for name in settings.model_fields_set}
    replicas = Replicas(**REPLICAS, release=release)
    return application(settings, replicas, make_engine=small_engine, make_app=partial(fake_app, values))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return small_settings(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def client(address: str, settings: Settings) -> Iterator[httpx.Client]:
    """One ingress, one replica that writes, two that verify: the real engine with the fake model."""
    serve.run(the_application(settings), name=APP, route_prefix="/")
    with httpx.Client(base_url=address, timeout=60) as client:
        until(lambda: client.get("/readyz").status_code == 200, "the service to be ready", 30)
        yield client
    serve.delete(APP)


class Load:
    """Clients that verify, or generate, again and again. `answers` are their status codes, and the errors that were no answers."""

    def __init__(self, client: httpx.Client, path: str, body: dict[str, Any]) -> None:
        self.answers: list[int | str] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(client, path, body)) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, more: int = 30) -> None:
        """Wait until so many more were answered."""
        enough = len(self.answers) + more
        until(lambda: len(self.answers) >= enough, "the load to go on", 60)

    def _ask(self, client: httpx.Client, path: str, body: dict[str, Any]) -> None:
        while not self._ended.is_set():
            try:
                answer = client.post(path, json=body)
                self.answers.append(answer.status_code if answer.status_code == 200 else f"{answer.status_code} {answer.text}")
            except httpx.HTTPError as error:
                self.answers.append(repr(error))
            self._ended.wait(PAUSE)


def replicas_of(deployment: str) -> set[str]:
    actors: list[Any] = list_named_actors(all_namespaces=True)
    named = (actor["name"] for actor in actors)
    return {name for name in named if name.startswith("SERVE_REPLICA") and f"{APP}#{deployment}#" in name}


def kill(name: str) -> None:
    ray.kill(ray.get_actor(name, namespace="serve"), no_restart=True)


def test_two_verifying_replicas_killed_in_turn_lose_no_request(client: httpx.Client) -> None:
    with Load(client, "/verify", {"text": ["one short text", "and another one"]}) as load:
        load.goes_on()
        for victim in sorted(replicas_of("verification")):
            kill(victim)
            load.goes_on()
            until(lambda victim=victim: len(replicas_of("verification") - {victim}) == 2, "another replica", 60)
            load.goes_on()
    assert set(load.answers) == {200}


def test_a_generation_whose_replica_dies_is_the_text_that_it_would_have_been(client: httpx.Client) -> None:
    handles = [serve.get_deployment_handle(name, APP) for name in ("generation", "verification")]

    async def scenario() -> None:
        async with running(ClusterEngine(*handles)) as asked:
            requests = [asked.request("slow", tokens=8, seed=seed) for seed in range(4)]
            undisturbed = await asked.texts(*requests)
            tickets = list(itertools.chain.from_iterable([await asked.submit(request) for request in requests]))
            streams = [asked.engine.stream(ticket) for ticket in tickets]
            begun = [(await anext(stream)).text for stream in streams]
            (victim,) = replicas_of("generation")
            kill(victim)
            texts = [first + "".join([piece.text async for piece in stream]) for first, stream in zip(begun, streams, strict=True)]
            assert texts == undisturbed and len(set(texts)) == 4
            assert texts == [(await asked.engine.result(ticket)).text for ticket in tickets]
            assert asked.engine.stats().restarts >= 4
            await comes_back(asked, victim)

    asyncio.run(asyncio.wait_for(scenario(), 120))


async def comes_back(asked: Asked, victim: str) -> None:
    deadline = time.monotonic() + 60
    while asked.engine.health().status != "ready" or replicas_of("generation") <= {victim}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def test_what_is_too_much_is_refused_with_retry_after(client: httpx.Client) -> None:
    body = {"prompt": ["slow"] * 6, "max_new_tokens": 5, "min_new_tokens": 5}  # of 12 places
    with ThreadPoolExecutor(8) as pool:
        answers = [asked.result() for asked in [pool.submit(client.post, "/generate", json=body) for _ in range(8)]]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused and all(int(answer.headers["retry-after"]) >= 1 and answer.json()["code"] == "queue_full" for answer in refused)
    served = [answer for answer in answers if answer.status_code == 200]
    assert len(served) + len(refused) == 8 and len(served) >= 2
    assert all(len(answer.json()["results"]) == 6 for answer in served)


def test_a_rolling_restart_fails_no_request(client: httpx.Client, settings: Settings) -> None:
    before = {name: replicas_of(name) for name in REPLICAS}
    verifying = Load(client, "/verify", {"text": "a text that is verified"})
    with verifying, Load(client, "/generate", {"prompt": "a prompt", "max_new_tokens": 20}) as writing:
        writing.goes_on()
        serve.run(the_application(settings, release="2"), name=APP, route_prefix="/")
        verifying.goes_on()
        writing.goes_on()
    assert set(verifying.answers) == set(writing.answers) == {200}
    for name, replicas in before.items():
        until(lambda replicas=replicas, name=name: not replicas & replicas_of(name), "the old ones to be gone", 60)
        assert len(replicas_of(name)) == REPLICAS[name]
