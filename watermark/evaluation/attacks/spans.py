"""Attacks on stretches of text: cutting, another order, and pasting into human text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np

from watermark.evaluation.attacks.words import join_words, split_words

# Quotation marks and brackets that close behind a full stop belong to the sentence; scripts without spaces need none after it.
_SENTENCE_END = re.compile("[.!?…][\"'”’»)\\]]{0,3}\\s+|[。！？][”’」』）]{0,2}\\s*|\\Z")


def first_half(text: str) -> str:
    """The first half of the words, rounded up."""
    lead, words = split_words(text)
    return join_words(lead, words[: (len(words) + 1) // 2]).rstrip()


def last_half(text: str) -> str:
    """The last half of the words, rounded up."""
    lead, words = split_words(text)
    return join_words("" if len(words) > 1 else lead, words[len(words) // 2 :])


def shuffle_sentences(text: str, rng: np.random.Generator) -> str:
    """The sentences in random order; the white space between them stays where it is."""
    ends = [0, *dict.fromkeys(match.end() for match in _SENTENCE_END.finditer(text))]
    pieces = [text[start:end] for start, end in itertools.pairwise(ends)]
    sentences = [piece.rstrip() for piece in pieces]
    gaps = [piece[len(sentence) :] for piece, sentence in zip(pieces, sentences, strict=True)]
    order = rng.permutation(len(sentences)).tolist()
    return "".join(sentences[i] + gap for i, gap in zip(order, gaps, strict=True))


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
