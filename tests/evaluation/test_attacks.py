from __future__ import annotations

import time
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.errors import InvalidInput
from watermark.evaluation.attacks import NAMES as KNOWN
from watermark.evaluation.attacks import PLAIN, WITH_PERCENTAGE, Materials, attack
from watermark.evaluation.attacks.words import join_words, split_words, vocabulary

TEXT = "The quick, brown fox (aged 3) jumped over\nthe lazy dog's back; then it slept.  Nobody “cared” at all, it seems - not even I."
HUMAN = ("One human wrote this sentence here.", "Another person wrote a second, longer one about rain and the sea.")
MATERIALS = Materials(words=["zig", "zag", "zog"], passages=HUMAN)
NAMES = [
    *PLAIN,
    "shuffle-sentences",
    "synonyms",
    *(f"{kind}-{n}" for kind in WITH_PERCENTAGE for n in (10, 30)),
    "delete-99",
    "swap-99",
    "typos-99",
]
HOSTILE = ("", " ", "word", "...", "\0", "日本語の文章です。", "🙂 🙂", "👩‍🚀" * 9, "a" * 5000, "\ud800 x", "İ ŉ ß", "\u200b" * 50)


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
    for text in HOSTILE:
        assert isinstance(run(name, text), str)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", ["A quick fox ran. ", "x", "好。", ". ", "'", "\n"])
def test_long_texts_take_reasonable_time(name: str, unit: str) -> None:
    text = (unit * 200_000)[:200_000]
    started = time.process_time()
    run(name, text)
    assert time.process_time() - started < 10


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
    assert run("upper-case", TEXT) == TEXT.upper()
    assert run("title-case", "“it's so-so, IBM” 3rd\n") == "“It's So-so, IBM” 3rd\n"
    assert run("first-half", "a b c d e") == "a b c"
    assert run("last-half", "a b c d e") == "c d e"
    assert run("last-half", "a b c d") == "c d"


@pytest.mark.parametrize("percent", [10, 30])
def test_insert_adds_the_share_and_keeps_the_text(percent: int) -> None:
    text = "\n".join(f"w{i}," for i in range(60))
    result = run(f"insert-{percent}", text)
    assert [word for word in result.split() if word not in MATERIALS.words] == text.split()
    assert len(result.split()) == 60 + round(60 * percent / 100) and result.count("\n") == 59


@pytest.mark.parametrize("percent", [10, 30, 99])
def test_swap_moves_the_share_one_place(percent: int) -> None:
    text = " ".join(str(i) for i in range(101))
    places = [int(word) for word in run(f"swap-{percent}", text).split()]
    assert sorted(places) == list(range(101)) and max(abs(a - b) for a, b in enumerate(places)) == 1
    assert sum(a != b for a, b in enumerate(places)) == 2 * round(101 * percent / 200)


@pytest.mark.parametrize("percent", [10, 30, 99])
def test_typos_hit_the_share_and_keep_punctuation(percent: int) -> None:
    text = " ".join(["“Words,”", "(with)", "marks", "-", "x"] * 20)
    pairs = list(zip(text.split(), run(f"typos-{percent}", text).split(), strict=True))
    changed = [(a, b) for a, b in pairs if a != b]
    assert len(changed) == min(percent, 80)
    assert all(abs(len(a) - len(b)) <= 1 and a[0] == b[0] for a, b in changed if not a[0].isalnum())


@pytest.mark.parametrize("percent", [5, 30])
def test_homoglyphs_and_zero_width_hit_the_share_of_letters(percent: int) -> None:
    letters = sum(map(str.isalpha, TEXT))
    result = run(f"homoglyphs-{percent}", TEXT)
    changed = [b for a, b in zip(TEXT, result, strict=True) if a != b]
    assert len(changed) == round(letters * percent / 100)
    assert all(unicodedata.name(c).split()[0] in ("CYRILLIC", "GREEK") for c in changed)
    longer = run(f"zero-width-{percent}", TEXT)
    assert "".join(c for c in longer if c.isascii() or c in "“”") == TEXT
    assert len(longer) - len(TEXT) == round(letters * percent / 100)


def test_all_homoglyphs_leave_no_letter_that_has_one() -> None:
    assert not set(run("homoglyphs-99", "accept a cow")) & set("aceopw")


def test_shuffle_sentences() -> None:
    text = "  One is 1.5 long. “Two!” he said?  Three\nends…\n\n四。五！ Six"
    results = {run("shuffle-sentences", text, seed) for seed in range(50)}
    assert len(results) > 20
    for result in results:
        assert sorted(result.split()) == sorted(text.split()) or "四" in result
        assert all(s in result for s in ("One is 1.5 long.", "“Two!”", "he said?", "Three\nends…", "四。", "五！", "Six"))
        assert len(result) == len(text) and result.count("\n") == text.count("\n")
    assert run("shuffle-sentences", "only one sentence.") == "only one sentence."


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


@pytest.mark.parametrize("name", ["synonym", "delete", "delete-0", "delete-100", "delete--5", "clean-10", ""])
def test_unknown_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidInput, match="delete-N") as error:
        attack(name, MATERIALS)
    assert all(known in str(error.value) for known in KNOWN)


def test_missing_materials_are_named() -> None:
    with pytest.raises(InvalidInput, match="replacement words"):
        attack("substitute-10", Materials())
    with pytest.raises(InvalidInput, match="words to insert"):
        attack("insert-10", Materials())
    with pytest.raises(InvalidInput, match="human texts"):
        attack("copy-paste-10", Materials())
