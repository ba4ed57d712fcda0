from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

ray = pytest.importorskip("ray", reason="the extra countersign[ray]")

from ray import serve  # noqa: E402

from service.cluster.application import Replicas, application  # noqa: E402
from service.cluster.local import start_ray  # noqa: E402
from service.engine.engine import BatchingEngine  # noqa: E402
from service.engine.protocol import Engine, Role  # noqa: E402
from service.settings import build_settings  # noqa: E402
from tests.service.engine.fake_models import faulty  # noqa: E402
from tests.service.engine.harness import SMALL as SMALL_ENGINE  # noqa: E402
from tests.service.harness import listen  # noqa: E402


@pytest.fixture(scope="session")
def address(no_settings_from_outside: None) -> Iterator[str]:
    """Of Serve, with Ray on this machine for all tests of a session: they take some seconds to start."""
    with listen() as free:
        port = free.getsockname()[1]
    start_ray("127.0.0.1", port, processes=16)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def small_engine(roles: Sequence[Role]) -> Engine:
    """The real engine with the fake model, which fails and dawdles when it is told to."""
    return BatchingEngine(build_settings(**SMALL_ENGINE), faulty, roles=roles)


@pytest.fixture(scope="module")
def replicas(address: str) -> Iterator[str]:
    """Small engines: one that generates and two that verify. The name of their application."""
    app = application(build_settings(), Replicas(verification=2), make_engine=small_engine)
    serve.run(app, name="engines", route_prefix="/engines")
    yield "engines"
    serve.delete("engines")
