from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.engine.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """One for all tests: importing torch and transformers takes longer than the tests."""
    shared = Nursery()
    yield shared
    shared.close()
