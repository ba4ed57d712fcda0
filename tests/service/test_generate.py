from __future__ import annotations

import pytest

from service.convert import SEED_BITS, prompt_seeds
from tests.service.harness import Served
from watermark.codebook.keys import KeyRing

LONG = {"max_new_tokens": 150, "min_new_tokens": 150}


def test_one_prompt_is_continued_and_marked(served: Served) -> None:
    answer = served.generate(prompt="Hello there", seed=3, **LONG)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    (result,) = body["results"]
    assert 100 < len(result["text"]) <= 150 and not result["text"].startswith("Hello there")
    assert result["usage"] == {"prompt_tokens": len("Hello there") + 1, "new_tokens": 150}
    assert result["finish_reason"] == "length" and result["seed"] == 3
    marking = result["marking"]
    assert marking["issuer"] == "default" and marking["payload"] is None and marking["tokens"] == 150
    assert marking["watermark"] is (marking["reason"] is None)
    assert body["model"] == "fake-0" and body["checkpoint"] == "fake-untrained"
    assert body["timings"]["worked_seconds"] > 0 and body["timings"]["waited_seconds"] >= 0


def test_a_list_is_answered_in_order_and_each_prompt_as_if_alone(served: Served) -> None:
    prompts = ["First", "Second one", "First"]
    together = served.generate(prompt=prompts, seed=9).json()["results"]
    seeds = prompt_seeds(9, 3)
    assert [result["seed"] for result in together] == seeds
    alone = [served.generate(prompt=prompt, seed=seed).json()["results"][0] for prompt, seed in zip(prompts, seeds, strict=True)]
    assert [r["text"] for r in together] == [r["text"] for r in alone]
    assert together[0]["text"] != together[2]["text"]  # the same prompt twice is two texts


def test_a_list_of_one_has_the_seed_of_its_place() -> None:
    assert prompt_seeds(5, None) == [5]
    assert prompt_seeds(5, 1) == prompt_seeds(5, 4)[:1] != [5]
    drawn = prompt_seeds(None, 50)
    assert len(set(drawn)) == 50 and all(0 <= seed < 2**SEED_BITS for seed in drawn)


def test_the_reported_seed_repeats_an_unseeded_text(served: Served) -> None:
    first = served.generate().json()["results"][0]
    again = served.generate(seed=first["seed"]).json()["results"][0]
    assert first["text"] == again["text"]


def test_same_prompt_and_seed_with_different_issuers(served: Served) -> None:
    texts = {issuer: served.generate(issuer=issuer, seed=2, **LONG).json()["results"][0] for issuer in ("default", "newsroom")}
    assert texts["default"]["text"] != texts["newsroom"]["text"]
    assert texts["newsroom"]["marking"]["payload"] == "00"  # it has payload bits, and none was given


def test_strength_zero_is_the_unmarked_text_whoever_is_named(served: Served) -> None:
    results = [served.generate(issuer=issuer, strength=0, seed=4, **LONG).json()["results"][0] for issuer in ("default", "newsroom")]
    assert results[0]["text"] == results[1]["text"]
    assert results[0]["marking"]["watermark"] is False and results[0]["marking"]["reason"]
    assert results[0]["text"] != served.generate(seed=4, **LONG).json()["results"][0]["text"]


def test_a_payload_comes_back_from_the_text_alone(served: Served) -> None:
    result = served.generate(issuer="newsroom", payload="2A", seed=1, max_new_tokens=300, min_new_tokens=300).json()["results"][0]
    assert result["marking"]["watermark"] and result["marking"]["payload"] == "2a"
    verdict = served.verify(result["text"]).json()["results"][0]
    assert (verdict["verdict"], verdict["issuer"], verdict["payload"]) == ("marked", "newsroom", "2a")


def test_a_payload_of_64_bits_is_taken_and_given_digit_by_digit(served: Served) -> None:
    ring = KeyRing(served.runtime.settings.keys)
    ring.create("wide", payload_bits=64)
    try:
        marking = served.generate(issuer="wide", payload="FEDCBA9876543211").json()["results"][0]["marking"]
        assert marking["payload"] == "fedcba9876543211"  # a JSON number would round it
        assert {"name": "wide", "payload_bits": 64} in served.client.get("/issuers").json()["issuers"]
        verdict = served.verify("some text", issuers=["wide"]).json()["results"][0]
        assert verdict["candidates"] == 16 * 2**64
    finally:
        ring.path("wide").unlink()


@pytest.mark.parametrize("prompt", ["", " ", "\x00", "emoji 🦊👩‍👩‍👧", "日本語のテキスト", "עברית", "a\u0301\u202e"])
def test_any_characters_are_a_prompt(served: Served, prompt: str) -> None:
    answer = served.generate(prompt=prompt)
    assert answer.status_code == 200, answer.text


def test_greedy_decoding_says_why_it_carries_no_mark(served: Served) -> None:
    for settings in ({"temperature": 0}, {"top_k": 1}):
        marking = served.generate(**settings).json()["results"][0]["marking"]
        assert marking["watermark"] is False and marking["marked_tokens"] == 0 and "greedy" in marking["reason"]


def test_issuers_are_named_and_their_keys_are_not(served: Served) -> None:
    answer = served.client.get("/issuers")
    assert answer.json() == {"issuers": [{"name": "default", "payload_bits": 0}, {"name": "newsroom", "payload_bits": 8}]}
    for key in KeyRing(served.runtime.settings.keys).all():
        assert key.secret.hex() not in answer.text


def test_a_key_made_while_the_service_runs_is_used_at_once(served: Served) -> None:
    KeyRing(served.runtime.settings.keys).create("late")
    try:
        assert served.generate(issuer="late").json()["results"][0]["marking"]["issuer"] == "late"
    finally:
        (served.runtime.settings.keys / "late.json").unlink()
