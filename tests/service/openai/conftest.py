"""The service with a chat model, and the real `openai` client."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.service.chat_model import chat_engine
from tests.service.harness import Served, serving, small_settings


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(small_settings(tmp_path_factory.mktemp("served")), chat_engine()) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    """Without retries: an error is to be seen, not waited out."""
    with connect(served) as client:
        yield client


def connect(served: Served, token: str = "unused", max_retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.client.base_url}/v1", api_key=token, max_retries=max_retries)
