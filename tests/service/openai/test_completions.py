"""`/v1/completions` and `/v1/models`, used as people use them: by the `openai` client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.service.chat_model import read
from tests.service.harness import Served

MODEL = "fake-model"


def test_a_text_is_what_the_native_endpoint_writes(served: Served, client: openai.OpenAI) -> None:
    ours = {"issuer": "newsroom", "payload": "2a", "top_k": 8, "min_new_tokens": 5}
    answer = client.completions.create(
        model=MODEL, prompt="Hello", max_tokens=40, temperature=0.5, top_p=0.9, seed=7, stop="\n\n", extra_body={"countersign": ours}
    )
    sent = served.engine.submitted[-1]
    native = served.generate(prompt="Hello", max_new_tokens=40, temperature=0.5, top_p=0.9, seed=7, stop=["\n\n"], **ours).json()
    assert served.engine.submitted[-1] == sent
    (choice,), (result,) = answer.choices, native["results"]
    assert choice.text == result["text"] and choice.finish_reason == "length" and choice.index == 0
    assert answer.model == MODEL and answer.object == "text_completion" and answer.id.startswith("cmpl-")
    assert answer.system_fingerprint == "fake-checkpoint"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (6, 40, 46)
    about = extra(choice)
    assert about["marking"] == result["marking"] and about["marking"]["payload"] == "2a" and about["seed"] == 7
    receipt = served.client.get(f"/receipts/{about['receipt_id']}").json()["receipt"]
    assert receipt["issuer"] == "newsroom" and receipt["content_length"] == len(choice.text)
    assert extra(answer)["checkpoint"] == "fake-checkpoint" and extra(answer)["timings"]["worked_seconds"] >= 0
    (verdict,) = served.verify(choice.text).json()["results"]
    assert (verdict["verdict"], verdict["issuer"], verdict["payload"]) == ("marked", "newsroom", "2a")


def test_what_is_left_out_is_as_in_the_native_endpoint(served: Served, client: openai.OpenAI) -> None:
    client.completions.create(model=MODEL, prompt="Hello", seed=1)
    sent = served.engine.submitted[-1]
    served.client.post("/generate", json={"prompt": "Hello", "seed": 1}).raise_for_status()
    assert served.engine.submitted[-1] == sent


def test_choices_are_in_the_order_of_prompts_each_with_its_own_seed(served: Served, client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["One", "Three"], n=3, max_tokens=20, seed=7)
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert [read(request.prompt)[5:] for request in served.engine.submitted[-6:]] == ["One"] * 3 + ["Three"] * 3  # pyright: ignore[reportArgumentType]
    seeds = [extra(choice)["seed"] for choice in answer.choices]
    assert len(set(seeds)) == 6
    assert answer.usage is not None and answer.usage.prompt_tokens == 4 + 6 and answer.usage.completion_tokens == 120
    again = client.completions.create(model=MODEL, prompt="Three", max_tokens=20, seed=seeds[4])
    assert again.choices[0].text == answer.choices[4].text


def test_without_a_receipt_and_without_a_mark(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Hello", max_tokens=30, extra_body={"countersign": {"receipt": False}})
    assert extra(answer.choices[0])["receipt_id"] is None and extra(answer.choices[0])["marking"]["watermark"]
    answer = client.completions.create(model=MODEL, prompt="Hello", max_tokens=30, extra_body={"countersign": {"strength": 0}})
    assert extra(answer.choices[0])["receipt_id"] is None and not extra(answer.choices[0])["marking"]["watermark"]


def test_a_stop_string_ends_the_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Hello", max_tokens=300, seed=1, stop=["a", "e"])
    assert answer.choices[0].finish_reason == "stop" and not set("ae") & set(answer.choices[0].text)


def test_the_async_client(served: Served) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{served.client.base_url}/v1", api_key="unused", max_retries=0) as client:
            answers = [client.completions.create(model=MODEL, prompt="Hello", max_tokens=20, seed=seed) for seed in (1, 2)]
            return [answer.choices[0].text for answer in await asyncio.gather(*answers)]

    assert asyncio.run(ask()) == [served.generate(seed=seed).json()["results"][0]["text"] for seed in (1, 2)]


def test_the_model_is_listed_under_the_name_that_requests_give(client: openai.OpenAI) -> None:
    (listed,) = client.models.list()
    assert listed.id == MODEL and client.models.retrieve(listed.id).id == MODEL
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("somebody/else")
    assert refused.value.code == "model_not_found"


def extra(thing: Any) -> dict[str, Any]:
    """What is ours in an object of the client, which keeps fields that it does not know."""
    return thing.model_extra["countersign"]
