"""Fingerprints: edited copies are near, other texts are not, and without the key they say nothing."""

from __future__ import annotations

import itertools
import random

import pytest

from service.storage.fingerprint import HASHES, MIN_WORDS, NEAR, Fingerprint, Fingerprinter, similarity

FINGERPRINTER = Fingerprinter(b"data key".ljust(32, b"."))
WORDS = [f"word{i}" for i in range(5000)]
WEIGHTS = [1 / (i + 2) for i in range(5000)]  # Zipf: unrelated texts share their frequent words


def prose(rng: random.Random, words: int = 200) -> list[str]:
    return rng.choices(WORDS, WEIGHTS, k=words)


def of(words: list[str]) -> Fingerprint:
    found = FINGERPRINTER.of(" ".join(words))
    assert found is not None and len(found.sketch) == HASHES
    return found


def near(a: Fingerprint, b: Fingerprint) -> bool:
    """As the store decides: a band in common, and similar enough."""
    return any(x == y for x, y in zip(a.bands, b.bands, strict=True)) and similarity(a.sketch, b.sketch) >= NEAR


@pytest.mark.parametrize(("edits", "found"), [(1, 100), (5, 100), (10, 99), (20, 70)])
def test_edited_copies_are_near(edits: int, found: int) -> None:
    """Of 100 texts of 200 words with so many words replaced at random places; measured: 100, 100, 100 and 80 to 90."""
    rng = random.Random(edits)
    hits = 0
    for _ in range(100):
        original = prose(rng)
        edited = list(original)
        for place in rng.sample(range(200), edits):
            edited[place] = rng.choice(WORDS)
        hits += near(of(original), of(edited))
    assert hits >= found


def test_cut_and_extended_copies_are_near() -> None:
    original = prose(random.Random(0))
    assert near(of(original), of(original[:150])) and near(of(original), of(original + prose(random.Random(1), 50)))
    moved = original[100:] + original[:100]
    assert near(of(original), of(moved))


def test_unrelated_texts_are_not() -> None:
    """79,800 pairs: the most similar has about 0.06."""
    rng = random.Random(7)
    prints = [of(prose(rng)) for _ in range(400)]
    assert max(similarity(a.sketch, b.sketch) for a, b in itertools.combinations(prints, 2)) < 0.15


def test_half_of_a_text_replaced_is_another_text() -> None:
    rng = random.Random(8)
    original = prose(rng)
    assert not near(of(original), of(original[:80] + prose(rng, 120)))


def test_what_a_reader_does_not_see_does_not_count() -> None:
    sentence = "The Harbour was quiet that Morning, and the boats lay still in Ａ thin grey light."
    words = sentence.split()
    looks = ["  \n ".join(words), " ".join(words).upper(), " ".join(words).replace("a", "a\u200b"), " ".join(words).replace("Ａ", "A")]
    assert {FINGERPRINTER.of(look) for look in looks} == {FINGERPRINTER.of(" ".join(words))}
    assert FINGERPRINTER.of(" ".join(words).replace(",", "")) == FINGERPRINTER.of(" ".join(words))


def test_short_texts_have_none() -> None:
    assert FINGERPRINTER.of("") is None and FINGERPRINTER.of("… !!! ?" * 30) is None
    assert FINGERPRINTER.of(" ".join(WORDS[: MIN_WORDS - 1])) is None
    assert FINGERPRINTER.of(" ".join(WORDS[:MIN_WORDS])) is not None


def test_scripts_without_spaces() -> None:
    text = "那天早晨港口很安静，船只静静地停在薄薄的灰色光线里，没有人说话，只有海鸥在远处叫着。"
    edited = text.replace("海鸥", "乌鸦")
    a, b = FINGERPRINTER.of(text), FINGERPRINTER.of(edited)
    assert a is not None and b is not None and near(a, b) and a != b


def test_each_key_has_fingerprints_of_its_own() -> None:
    """So that a stolen database cannot be searched for a text."""
    text = " ".join(prose(random.Random(3)))
    a, b = Fingerprinter(b"a" * 32).of(text), Fingerprinter(b"b" * 32).of(text)
    assert a is not None and b is not None and similarity(a.sketch, b.sketch) < 0.1 and not set(a.bands) & set(b.bands)


def test_they_stay_the_same_for_ever() -> None:
    """Stored ones are compared with those of later releases."""
    found = FINGERPRINTER.of("the harbour was quiet that morning and the boats lay still in the light")
    assert found is not None
    assert found.sketch[:8].hex() == "038d26e8377bc6ca"
    assert found.bands == (-1362905446, -248730211, 1352925879, -1804001194)
