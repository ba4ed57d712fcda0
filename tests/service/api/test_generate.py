from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.api.drafts import SEED_BITS, prompt_seeds
from tests.service.harness import Served, problem, until


def test_one_prompt_is_continued_and_marked(served: Served) -> None:
    answer = served.generate(prompt="Hello there", seed=3, max_new_tokens=50)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    (result,) = body["results"]
    assert len(result["text"]) == 50 and result["id"].startswith("text-")
    assert result["usage"] == {"prompt_tokens": len("Hello there") + 1, "new_tokens": 50}
    assert result["finish_reason"] == "length" and result["seed"] == 3
    assert result["marking"] == {
        "watermark": True,
        "issuer": "default",
        "payload": None,
        "tokens": 50,
        "marked_tokens": 50,
        "p_value": 1e-9,
        "reason": None,
    }
    assert body["id"] == answer.headers["x-request-id"]
    assert (body["model"], body["checkpoint"]) == ("fake-model", "fake-checkpoint")
    timings = body["timings"]
    assert timings["worked_seconds"] > 0 and timings["waited_seconds"] >= 0 and timings["first_token_seconds"] > 0


def test_every_setting_reaches_the_engine(served: Served) -> None:
    sampling = {"max_new_tokens": 30, "min_new_tokens": 7, "temperature": 0.5, "top_k": 9, "top_p": 0.75, "seed": 11}
    answer = served.generate(prompt="Hi", issuer="newsroom", payload="2A", strength=0.25, stop=["zz", "\n"], **sampling)
    assert answer.status_code == 200, answer.text
    request = served.engine.submitted[-1]
    assert {name: getattr(request.sampling, name) for name in sampling} == sampling and request.sampling.stop == ("zz", "\n")
    assert request.key and (request.key.name, request.key.version) == ("newsroom", 1)
    assert (request.payload, request.strength, len(request.prompt)) == (0x2A, 0.25, 3)
    assert answer.json()["results"][0]["marking"]["payload"] == "2a"


def test_a_list_is_answered_in_order_and_each_prompt_as_if_alone(served: Served) -> None:
    prompts = ["First", "Second one", "First"]
    together = served.generate(prompt=prompts, seed=9).json()["results"]
    seeds = prompt_seeds(9, 3)
    assert [result["seed"] for result in together] == seeds
    alone = [served.generate(prompt=prompt, seed=seed).json()["results"][0] for prompt, seed in zip(prompts, seeds, strict=True)]
    assert [result["text"] for result in together] == [result["text"] for result in alone]
    assert together[0]["text"] != together[2]["text"]  # the same prompt twice is two texts
    assert len({result["id"] for result in together + alone}) == 6


def test_a_list_of_one_has_the_seed_of_its_place() -> None:
    assert prompt_seeds(5, None) == [5]
    assert prompt_seeds(5, 1) == prompt_seeds(5, 4)[:1] != [5]
    drawn = prompt_seeds(None, 50)
    assert len(set(drawn)) == 50 and all(0 <= seed < 2**SEED_BITS for seed in drawn)


def test_the_reported_seed_repeats_an_unseeded_text(served: Served) -> None:
    first = served.generate().json()["results"][0]
    assert served.generate(seed=first["seed"]).json()["results"][0]["text"] == first["text"]


def test_stop_strings_end_a_text(served: Served) -> None:
    whole = served.generate(seed=5, max_new_tokens=100).json()["results"][0]["text"]
    stopped = served.generate(seed=5, max_new_tokens=100, stop=[whole[40:43]]).json()["results"][0]
    assert stopped["finish_reason"] == "stop" and whole.startswith(stopped["text"]) and len(stopped["text"]) <= 42


@pytest.mark.parametrize("prompt", ["", " ", "\x00", "emoji 🦊👩‍👩‍👧", "日本語のテキスト", "עברית", "a\u0301\u202e"])
def test_any_characters_are_a_prompt(served: Served, prompt: str) -> None:
    assert served.generate(prompt=prompt).status_code == 200


def test_the_issuer_may_be_left_out_where_it_is_clear_who_is_meant(served: Served) -> None:
    assert served.generate().json()["results"][0]["marking"]["issuer"] == "default"
    served.storage.issuers.create("late")  # by another process, while the service runs
    assert served.generate(issuer="late").json()["results"][0]["marking"]["issuer"] == "late"


def test_a_poisonous_prompt_fails_alone_and_is_named(served: Served) -> None:
    body = problem(served.generate(prompt=["good", "poison"]), 500, "internal")
    assert body["item"] == 1 and body["error_id"] and "digest" not in body["detail"]
    assert "item" not in problem(served.generate(prompt="poison"), 500, "internal")
    assert served.generate(prompt="good").status_code == 200
    until(lambda: served.unfinished == 0, "the places to be given back")


def test_a_full_queue_refuses_at_once_all_or_nothing(served: Served) -> None:
    served.on_loop(lambda: setattr(served.engine, "queue_size", 3))
    try:
        answer = served.generate(prompt=["a"] * 4)
        assert problem(answer, 503, "queue_full")["detail"] and answer.elapsed.total_seconds() < 1
        assert served.unfinished == 0 and served.generate(prompt=["a"] * 3).status_code == 200
    finally:
        served.on_loop(lambda: setattr(served.engine, "queue_size", 64))


def test_a_worker_that_dies_is_a_clear_refusal(served: Served) -> None:
    with served.holding(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(served.generate)
        until(lambda: served.unfinished == 1, "the prompt to wait")
        asyncio.run_coroutine_threadsafe(served.engine.die(), served.loop).result(10)
        problem(waiting.result(), 503, "worker_died")
