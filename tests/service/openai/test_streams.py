"""Streams of `/v1`, read by the `openai` client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.service.harness import Served, until
from tests.service.openai.test_completions import MODEL, extra

HI: list[Any] = [{"role": "user", "content": "Hi"}]


def test_pieces_add_up_to_the_text_that_comes_without_a_stream(client: openai.OpenAI) -> None:
    request: dict[str, Any] = {"model": MODEL, "prompt": ["One", "Two"], "n": 2, "max_tokens": 20, "seed": 9}
    whole = client.completions.create(**request)
    chunks = list(client.completions.create(**request, stream=True))
    texts = ["", "", "", ""]
    ended: dict[int, Any] = {}
    for chunk in chunks:
        (choice,) = chunk.choices
        assert choice.index not in ended
        texts[choice.index] += choice.text
        if choice.finish_reason:
            ended[choice.index] = choice
        else:
            assert "countersign" not in (choice.model_extra or {})
    assert texts == [choice.text for choice in whole.choices]
    for choice in whole.choices:
        about, expected = extra(ended[choice.index]), extra(choice)
        assert about["marking"] == expected["marking"] and about["seed"] == expected["seed"] and about["receipt_id"]
    assert [chunk for chunk in chunks if "countersign" in (chunk.model_extra or {})] == [chunks[-1]]
    assert extra(chunks[-1])["checkpoint"] == "fake-checkpoint" and extra(chunks[-1])["timings"]["first_token_seconds"] > 0
    assert len({chunk.id for chunk in chunks}) == 1 and all(chunk.usage is None for chunk in chunks)


def test_a_chat_stream(client: openai.OpenAI) -> None:
    request: dict[str, Any] = {"model": MODEL, "messages": HI, "n": 2, "max_tokens": 20, "seed": 9}
    whole = client.chat.completions.create(**request)
    chunks = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    for index in range(2):
        choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert choices[0].delta.role == "assistant" and all(choice.delta.role is None for choice in choices[1:])
        assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[index].message.content
        assert [choice.finish_reason for choice in choices[-2:]] == [None, "length"]
        assert extra(choices[-1])["marking"] == extra(whole.choices[index])["marking"]
    assert chunks[-1].choices == [] and chunks[-1].usage is not None and chunks[-1].usage.model_dump() == whole.usage.model_dump()
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}


def test_the_async_client(client: openai.OpenAI) -> None:
    async def read() -> str:
        text = ""
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="unused", max_retries=0) as asynchronous:
            stream = await asynchronous.chat.completions.create(model=MODEL, messages=HI, max_tokens=20, seed=9, stream=True)
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
        return text

    whole = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=20, seed=9)
    assert asyncio.run(read()) == whole.choices[0].message.content


def test_leaving_a_stream_frees_its_places(served: Served, client: openai.OpenAI) -> None:
    with served.holding(after=1):
        with client.completions.create(model=MODEL, prompt=["Hello", "There"], max_tokens=300, stream=True) as stream:
            next(iter(stream))
            assert served.engine.stats().running_prompts == 2
        until(lambda: served.engine.stats().running_prompts == 0, "the places to be free")


def test_an_error_after_the_beginning_is_an_error_of_the_client(served: Served, client: openai.OpenAI) -> None:
    with served.holding(after=1):
        stream = iter(client.completions.create(model=MODEL, prompt="Hello", max_tokens=300, stream=True))
        assert next(stream).choices[0].text
        served.on_loop(lambda: asyncio.ensure_future(served.engine.die()))
        with pytest.raises(openai.APIError) as failed:
            list(stream)
    assert failed.value.code == "worker_died" and failed.value.type == "server_error"
    until(lambda: served.readiness()[0] == 200, "the worker to be back")


def test_a_stream_that_cannot_begin_is_refused_by_its_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model=MODEL, prompt="x", stream=True, extra_body={"countersign": {"issuer": "nobody"}})
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="x", stream_options={"include_usage": True})
    assert refused.value.param == "stream_options"
