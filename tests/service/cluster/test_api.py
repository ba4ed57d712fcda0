"""The tests of the API, asked of the Ray application over HTTP: Ray's proxy, an ingress, a replica that writes and one that verifies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.api import (
    test_aborted,
    test_generate,
    test_health,
    test_issuers,
    test_openapi,
    test_problems,
    test_receipts,
    test_stream,
    test_verify,
)
from tests.service.cluster.collected import tests_of
from tests.service.cluster.fakes import ServedByRay, serving_on_ray
from tests.service.harness import small_settings

MODULES = (test_aborted, test_generate, test_health, test_issuers, test_openapi, test_problems, test_receipts, test_stream, test_verify)
OTHERWISE = {
    "test_problems_the_server_does_not_name_itself": "Ray's proxy does",
    "test_problems_methods_of_the_clients_invention_are_refused": "Ray's proxy refuses them itself, with 400",
    "test_problems_a_sane_request_id_is_taken_over_and_another_replaced": "Ray's proxy puts into the answer what it was given",
}
TESTS = {name: test for name, test in tests_of(*MODULES).items() if name not in OTHERWISE}
globals().update(TESTS)


@pytest.fixture(scope="module")
def served(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedByRay]:
    settings = small_settings(tmp_path_factory.mktemp("served"))
    with serving_on_ray(address, settings, tmp_path_factory.mktemp("written")) as running:
        yield running


def test_there_are_tests() -> None:
    assert len(TESTS) >= 55


def test_a_request_has_one_id(served: ServedByRay) -> None:
    for given, taken in ((None, 36), ("job-7.step_2", 12)):
        answer = served.client.post("/verify", json={}, headers={} if given is None else {"X-Request-ID": given})
        assert answer.status_code == 422 and len(answer.headers["x-request-id"]) == taken
