"""Attacks on single words. White space between the words that stay is kept as it is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

# Scripts without spaces: every ideograph and kana counts as a word of its own, or an attack would see one giant word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")
_CORE = re.compile(r"\w(?:.*\w)?", re.DOTALL)


def split_words(text: str) -> tuple[str, list[tuple[str, str]]]:
    """(what precedes the first word, [(word, white space after it), …]); joined again, it is the text."""
    matches = list(_WORD.finditer(text))
    if not matches:
        return text, []
    ends = [*(match.start() for match in matches[1:]), len(text)]
    return text[: matches[0].start()], [(match[0], text[match.end() : end]) for match, end in zip(matches, ends, strict=True)]


def join_words(lead: str, words: Iterable[tuple[str, str]]) -> str:
    return lead + "".join(word + gap for word, gap in words)


def word_core(word: str) -> re.Match[str] | None:
    """The word without the punctuation around it; None if there is nothing else."""
    return _CORE.search(word)


def vocabulary(texts: Iterable[str]) -> list[str]:
    """All words of some texts without the punctuation around them, repetitions included, for `substitute_words`."""
    cores = (word_core(word) for text in texts for word, _ in split_words(text)[1])
    return [core[0] for core in cores if core]


def delete_words(text: str, rng: np.random.Generator, share: float) -> str:
    """Without `share` of the words (rounded), drawn at random; at least one word stays."""
    lead, words = split_words(text)
    if len(words) < 2:
        return text
    chosen = choose(len(words), round(min(share, 1.0 - 1.0 / len(words)) * len(words)), rng)
    kept = join_words(lead, (word for i, word in enumerate(words) if i not in chosen))
    return kept if words[-1][1] else kept.rstrip()  # no trailing space left over from a deleted last word


def substitute_words(text: str, rng: np.random.Generator, share: float, replacements: Sequence[str]) -> str:
    """With `share` of the words (rounded) replaced by words drawn from `replacements`; punctuation around a word stays."""
    lead, words = split_words(text)
    for i in sorted(choose(len(words), round(share * len(words)), rng)):
        word, gap = words[i]
        new = replacements[int(rng.integers(len(replacements)))]
        core = word_core(word)
        words[i] = (word[: core.start()] + new + word[core.end() :] if core else new, gap)
    return join_words(lead, words)


def insert_words(text: str, rng: np.random.Generator, share: float, insertions: Sequence[str]) -> str:
    """With words drawn from `insertions` put before words drawn at random, `share` of the words that were there (rounded)."""
    lead, words = split_words(text)
    if not words:
        return text
    before = np.bincount(rng.integers(len(words), size=round(share * len(words))), minlength=len(words))
    longer: list[tuple[str, str]] = []
    for word, count in zip(words, before, strict=True):
        longer += [(insertions[int(k)], " ") for k in rng.integers(len(insertions), size=count)]
        longer.append(word)
    return join_words(lead, longer)


def swap_words(text: str, rng: np.random.Generator, share: float) -> str:
    """With neighbours exchanged in so many places that `share` of the words (rounded) stand elsewhere, each of them one place on."""
    lead, words = split_words(text)
    pairs = round(share * len(words) / 2)
    # Disjoint pairs, every set of them as likely as any other: draw places in a text where each pair is one word, then stretch it.
    for extra, place in enumerate(sorted(choose(len(words) - pairs, pairs, rng))):
        i = place + extra
        (first, gap), (second, next_gap) = words[i], words[i + 1]
        words[i : i + 2] = [(second, gap), (first, next_gap)]
    return join_words(lead, words)


def lower_case(text: str) -> str:
    return text.lower()


def strip_punctuation(text: str) -> str:
    """Without any Unicode punctuation; spaces that thereby meet become one."""
    bare = "".join(c for c in text if not unicodedata.category(c).startswith("P"))
    return re.sub(r"[^\S\n]{2,}", " ", bare)


def choose(count: int, wanted: int, rng: np.random.Generator) -> set[int]:
    """`wanted` of the numbers below `count`, drawn at random."""
    return set(rng.choice(count, size=wanted, replace=False).tolist())
