from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.errors import InvalidInput
from watermark.evaluation.attacks import PLAIN, Materials, attack
from watermark.evaluation.attacks.words import join_words, split_words, vocabulary

TEXT = "The quick, brown fox (aged 3) jumped over\nthe lazy dog's back; then it slept.  Nobody “cared” at all, it seems - not even I."
HUMAN = ("One human wrote this sentence here.", "Another person wrote a second, longer one about rain and the sea.")
MATERIALS = Materials(words=["zig", "zag", "zog"], passages=HUMAN)
NAMES = [*PLAIN, "delete-10", "delete-30", "substitute-10", "substitute-30", "copy-paste-50", "copy-paste-10", "delete-99"]


def run(name: str, text: str, seed: int = 0) -> str:
    return attack(name, MATERIALS)(text, np.random.default_rng(seed))


def only_words(text: str) -> list[str]:
    return [word for word, _ in split_words(text)[1]]


@given(st.text())
def test_splitting_loses_nothing(text: str) -> None:
    assert join_words(*split_words(text)) == text


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_by_seed_and_total(name: str) -> None:
    assert run(name, TEXT, 1) == run(name, TEXT, 1)
    for text in ("", " ", "word", "...", "\0", "日本語の文章です。", "🙂 🙂", "a" * 5000):
        assert isinstance(run(name, text), str)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PLAIN])
def test_another_seed_edits_elsewhere(name: str) -> None:
    assert len({run(name, TEXT, seed) for seed in range(20)}) > 1


@pytest.mark.parametrize("percent", [10, 30])
def test_delete_keeps_order_and_removes_the_share(percent: int) -> None:
    words, left = only_words(TEXT), only_words(run(f"delete-{percent}", TEXT))
    assert len(left) == len(words) - round(len(words) * percent / 100)
    remaining = iter(words)
    assert all(word in remaining for word in left)  # a subsequence


def test_delete_spreads_over_the_text() -> None:
    text = " ".join(str(i) for i in range(100))
    gone = Counter(word for seed in range(200) for word in set(text.split()) - set(run("delete-10", text, seed).split()))
    assert len(gone) == 100 and max(gone.values()) < 50


@pytest.mark.parametrize("percent", [10, 30])
def test_substitute_replaces_the_share_and_keeps_layout(percent: int) -> None:
    text = " ".join(f"w{i}," for i in range(50)) + "\nend."
    before, after = text.split(), run(f"substitute-{percent}", text).split()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) == round(51 * percent / 100)
    assert all(b.strip(",.") in MATERIALS.words and b[-1] == a[-1] for a, b in changed)
    assert run(f"substitute-{percent}", text).count("\n") == 1


def test_unspaced_scripts_are_edited_by_character() -> None:
    text = "今天天气很好我们去公园散步"
    assert len(run("delete-30", text)) == len(text) - round(0.3 * len(text))


def test_plain_attacks() -> None:
    assert run("clean", TEXT) == TEXT
    assert run("lower-case", "ÄB Cd") == "äb cd"
    assert run("strip-punctuation", "“It's - well, fine!”\nNo.") == "Its well fine\nNo"
    assert run("first-half", "a b c d e") == "a b c"
    assert run("last-half", "a b c d e") == "c d e"
    assert run("last-half", "a b c d") == "c d"


@pytest.mark.parametrize("percent", [10, 25, 50])
def test_copy_paste_holds_the_text_whole_at_its_share(percent: int) -> None:
    places = set()
    for seed in range(30):
        result = run(f"copy-paste-{percent}", TEXT, seed)
        assert TEXT in result
        assert len(only_words(TEXT)) / len(only_words(result)) == pytest.approx(percent / 100, abs=0.02)
        rest = set(only_words(result.replace(TEXT, " ")))
        assert rest <= set(only_words(" ".join(HUMAN)))
        places.add(result.index(TEXT))
    assert len(places) > 10


def test_vocabulary_strips_punctuation_and_keeps_frequency() -> None:
    assert vocabulary(["“The dog's end.”", "the - end"]) == ["The", "dog's", "end", "the", "end"]


@pytest.mark.parametrize("name", ["paraphrase", "delete", "delete-0", "delete-100", "delete--5", "clean-10", ""])
def test_unknown_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidInput, match="delete-N"):
        attack(name, MATERIALS)


def test_missing_materials_are_named() -> None:
    with pytest.raises(InvalidInput, match="replacement words"):
        attack("substitute-10", Materials())
    with pytest.raises(InvalidInput, match="human texts"):
        attack("copy-paste-10", Materials())
