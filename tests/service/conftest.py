from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.engine.nursery import Nursery
from service.observability.logs import configure_logging
from tests.service.harness import Served, serving, small_settings


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the settings, or touches the keys, of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COUNTERSIGN_")]:
            patch.delenv(name)
        patch.setenv("COUNTERSIGN_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("COUNTERSIGN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def logs() -> Iterator[None]:
    """Logs go through the service's own formatter and nowhere; pytest shows them beside a failed test."""
    with open(os.devnull, "w") as nowhere:
        configure_logging("INFO", "json", nowhere)
        yield


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """For tests that configure logging themselves."""
    yield
    configure_logging("INFO", "json", io.StringIO())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service with the fake model, shared by the tests of a module."""
    with serving(small_settings(Path(tmp_path_factory.mktemp("served")))) as running:
        yield running


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """One for all tests with the real engine: importing torch and transformers takes longer than the tests."""
    shared = Nursery()
    yield shared
    shared.close()
