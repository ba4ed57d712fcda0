"""The tests of the OpenAI-compatible API, asked of the Ray application with the real `openai` client."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.service.chat_model import chat_engine
from tests.service.cluster.collected import tests_of
from tests.service.cluster.fakes import ServedByRay, serving_on_ray
from tests.service.harness import small_settings
from tests.service.openai import test_chat, test_completions, test_errors, test_streams
from tests.service.openai.conftest import connect

TESTS = tests_of(test_chat, test_completions, test_errors, test_streams)
globals().update(TESTS)


@pytest.fixture(scope="module")
def served(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedByRay]:
    settings = small_settings(tmp_path_factory.mktemp("served"))
    with serving_on_ray(address, settings, tmp_path_factory.mktemp("written"), chat_engine) as running:
        yield running


@pytest.fixture
def client(served: ServedByRay) -> Iterator[openai.OpenAI]:
    with connect(served) as client:
        yield client


def test_there_are_tests() -> None:
    assert len(TESTS) >= 20
