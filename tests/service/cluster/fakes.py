"""The fake engine in several processes, and the service in front of them: for the tests of the API, asked of the Ray application."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from service.app import create_app
from service.cluster.application import Replicas, application
from service.engine.protocol import Engine, Role
from service.settings import Settings, build_settings
from service.storage.open import open_storage
from tests.service.fake_engine import FakeEngine
from tests.service.harness import UNCHECKED, Served, until
from watermark.sampling.requests import GenerationRequest


class Notes(dict[str, GenerationRequest]):
    """What was written, and asked for by whom, in files: the fake engine that verifies is another than the one that wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __setitem__(self, text: str, request: GenerationRequest) -> None:
        self._file(text).write_bytes(pickle.dumps(request))

    def get(self, text: str, default: Any = None) -> Any:
        file = self._file(text)
        return pickle.loads(file.read_bytes()) if file.exists() else default

    def _file(self, text: str) -> Path:
        return self._folder / hashlib.sha256(text.encode()).hexdigest()


def fake_engine(make: Callable[[], FakeEngine], folder: Path, _roles: Sequence[Role]) -> Engine:
    engine = make()
    engine._written = Notes(folder)
    return engine


def fake_app(values: dict[str, Any], engine: Engine) -> Any:
    return create_app(build_settings(**values), engine=engine, read_key_check=lambda: UNCHECKED)


class ServedByRay(Served):
    """The service at an address. Its insides are in other processes, so a test that looks at them is skipped."""

    def __init__(self, client: httpx.Client, storage: Any) -> None:
        self.client, self.storage = client, storage

    def __getattr__(self, name: str) -> Any:
        if name in {"app", "server", "runtime"}:
            pytest.skip("looks at the insides of the service, which are in other processes here")
        raise AttributeError(name)


@contextlib.contextmanager
def serving_on_ray(address: str, settings: Settings, folder: Path, make: Callable[[], FakeEngine] = FakeEngine) -> Iterator[ServedByRay]:
    """One ingress and one replica of each kind, deployed as `serve run` does, until the block ends."""
    values = {name: getattr(settings, name) for name in settings.model_fields_set}
    app = application(settings, Replicas(), make_engine=partial(fake_engine, make, folder), make_app=partial(fake_app, values))
    serve.run(app, name="fake", route_prefix="/")
    try:
        with httpx.Client(base_url=address, timeout=30) as client, contextlib.closing(open_storage(settings)) as storage:
            served = ServedByRay(client, storage)
            until(lambda: served.readiness()[0] == 200, "the service to be ready", 30)
            yield served
    finally:
        serve.delete("fake")
