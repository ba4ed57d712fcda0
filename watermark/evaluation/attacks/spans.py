"""Attacks on stretches of text: cutting, and pasting into human text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from watermark.evaluation.attacks.words import join_words, split_words


def first_half(text: str) -> str:
    """The first half of the words, rounded up."""
    lead, words = split_words(text)
    return join_words(lead, words[: (len(words) + 1) // 2]).rstrip()


def last_half(text: str) -> str:
    """The last half of the words, rounded up."""
    lead, words = split_words(text)
    return join_words("" if len(words) > 1 else lead, words[len(words) // 2 :])


def copy_paste(text: str, rng: np.random.Generator, share: float, passages: Sequence[str]) -> str:
    """The whole text, put at a random place into human text, so that its words are `share` of all words.

    Human words come from passages drawn at random, without repetition until all are used up.
    """
    words = len(split_words(text)[1])
    needed = round(words * (1.0 - share) / share)
    human: list[tuple[str, str]] = []
    while len(human) < needed:
        before = len(human)
        for i in rng.permutation(len(passages)):
            human += [(word, gap or " ") for word, gap in split_words(passages[int(i)])[1]]
            if len(human) >= needed:
                break
        if len(human) == before:  # only empty passages
            return text
    human = human[:needed]
    place = int(rng.integers(len(human) + 1))
    parts = (join_words("", human[:place]).strip(), text.strip(), join_words("", human[place:]).strip())
    return " ".join(part for part in parts if part)
