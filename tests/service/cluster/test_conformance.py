"""What every engine promises, asked of the one whose work is done by replicas: the scenarios of the others, but for their own deaths."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import pytest
from ray import serve

from service.cluster.engine import ClusterEngine
from tests.service.engine import test_conformance
from tests.service.engine.harness import running

OTHERWISE = {"test_a_dead_worker_fails_what_it_had_and_is_back"}
"""A replica's death is no failure (test_faults.py)."""
SCENARIOS = {
    name: test
    for name, test in vars(test_conformance).items()
    if name.startswith("test_") and "play" in inspect.signature(test).parameters and name not in OTHERWISE
}
globals().update(SCENARIOS)


@pytest.fixture
def play(replicas: str) -> Callable[[test_conformance.Scenario], None]:
    async def alive(scenario: test_conformance.Scenario) -> None:
        handles = (serve.get_deployment_handle(name, replicas) for name in ("generation", "verification"))
        async with running(ClusterEngine(*handles)) as asked:
            await asyncio.wait_for(scenario(asked), 60)

    return lambda scenario: asyncio.run(alive(scenario))


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 10
