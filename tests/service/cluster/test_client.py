"""The tests of the client and of idempotency, asked of the Ray application."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.client import Client
from tests.service.client import test_client
from tests.service.cluster.collected import tests_of
from tests.service.cluster.fakes import ServedByRay, serving_on_ray
from tests.service.harness import small_settings
from tests.service.protection import test_idempotency

TESTS = tests_of(test_client, test_idempotency)
globals().update(TESTS)


@pytest.fixture(scope="module")
def served(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedByRay]:
    settings = small_settings(tmp_path_factory.mktemp("served"))
    with serving_on_ray(address, settings, tmp_path_factory.mktemp("written")) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: ServedByRay) -> Iterator[Client]:
    with Client(test_client.address(served), retries=test_client.ONCE) as client:
        yield client


def test_there_are_tests() -> None:
    assert len(TESTS) >= 12
