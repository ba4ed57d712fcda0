from __future__ import annotations

from collections.abc import Iterator

import pytest

ray = pytest.importorskip("ray", reason="the extra countersign[ray]")

from ray import serve  # noqa: E402

from service.cluster.application import Replicas, application  # noqa: E402
from service.cluster.local import start_ray  # noqa: E402
from service.settings import build_settings  # noqa: E402
from tests.service.engine.small import small_engine  # noqa: E402
from tests.service.harness import listen  # noqa: E402


@pytest.fixture(scope="session")
def address(no_settings_from_outside: None) -> Iterator[str]:
    """Of Serve, with Ray on this machine for all tests of a session: they take some seconds to start."""
    with listen() as free:
        port = free.getsockname()[1]
    start_ray("127.0.0.1", port, cores=16)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(scope="module")
def replicas(address: str) -> Iterator[str]:
    """Small engines: one that generates and two that verify. The name of their application."""
    app = application(build_settings(), Replicas(verification=2), make_engine=small_engine)
    serve.run(app, name="engines", route_prefix="/engines")
    yield "engines"
    serve.delete("engines")
