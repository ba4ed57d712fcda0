"""Attacks on single characters: typing mistakes, lookalikes from other scripts, invisible characters, capitals."""

from __future__ import annotations

import numpy as np

from watermark.evaluation.attacks.words import choose, join_words, split_words, word_core

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# Letters of other scripts that most fonts draw like the Latin ones.
_GLYPHS = "aаα cс dԁ eе hһ iіι jј oоο pрρ qԛ sѕ uυ vν wԝ xх yу AАΑ BВΒ CС EЕΕ HНΗ IІΙ JЈ KКΚ MМΜ NΝ OОΟ PРΡ SЅ TТΤ XХΧ YҮΥ ZΖ"
_LOOKALIKES = {group[0]: group[1:] for group in _GLYPHS.split()}
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"


def _neighbours() -> dict[str, str]:
    """The keys beside a letter and diagonally below and above it; each row stands half a key to the right of the one above."""
    found = {}
    for r, row in enumerate(_ROWS):
        for k, key in enumerate(row):
            above = _ROWS[r - 1][k : k + 2] if r else ""
            below = _ROWS[r + 1][max(k - 1, 0) : k + 1] if r + 1 < len(_ROWS) else ""
            found[key] = row[max(k - 1, 0) : k] + row[k + 1 : k + 2] + above + below
    return found


_NEIGHBOURS = _neighbours()


def typos(text: str, rng: np.random.Generator, share: float) -> str:
    """With one typing mistake in `share` of the words (rounded): a wrong key, a letter left out, doubled, or exchanged with the next."""
    lead, words = split_words(text)
    places = [i for i, (word, _) in enumerate(words) if word_core(word)]
    for k in sorted(choose(len(places), min(round(share * len(words)), len(places)), rng)):
        word, gap = words[places[k]]
        core = word_core(word)
        assert core
        words[places[k]] = (word[: core.start()] + _mistype(core[0], rng) + word[core.end() :], gap)
    return join_words(lead, words)


def _mistype(word: str, rng: np.random.Generator) -> str:
    """Always another word than it was."""
    i = int(rng.integers(len(word)))
    kind = rng.choice(["key", "drop", "double", "exchange"])
    if kind == "key" and (keys := _NEIGHBOURS.get(word[i].lower())):
        key = keys[int(rng.integers(len(keys)))]
        return word[:i] + (key.upper() if word[i].isupper() else key) + word[i + 1 :]
    if kind == "drop" and len(word) > 1:
        return word[:i] + word[i + 1 :]
    if kind == "exchange" and i + 1 < len(word) and word[i] != word[i + 1]:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return word[: i + 1] + word[i:]


def homoglyphs(text: str, rng: np.random.Generator, share: float) -> str:
    """With `share` of the letters (rounded) replaced by Cyrillic or Greek ones that look the same, as far as so many have any."""
    places = [i for i, c in enumerate(text) if c in _LOOKALIKES]
    wanted = min(round(share * sum(map(str.isalpha, text))), len(places))
    characters = list(text)
    for i in sorted(places[k] for k in choose(len(places), wanted, rng)):
        glyphs = _LOOKALIKES[text[i]]
        characters[i] = glyphs[int(rng.integers(len(glyphs)))]
    return "".join(characters)


def zero_width(text: str, rng: np.random.Generator, share: float) -> str:
    """With a character of no width after `share` of the letters (rounded)."""
    places = [i for i, c in enumerate(text) if c.isalpha()]
    characters = list(text)
    for i in sorted(places[k] for k in choose(len(places), round(share * len(places)), rng)):
        characters[i] += ZERO_WIDTH[int(rng.integers(len(ZERO_WIDTH)))]
    return "".join(characters)


def upper_case(text: str) -> str:
    return text.upper()


def title_case(text: str) -> str:
    """Every Word With a Capital, as in headlines; the other letters as they are."""
    lead, words = split_words(text)
    titled = []
    for word, gap in words:
        start = core.start() if (core := word_core(word)) else 0
        titled.append((word[:start] + word[start : start + 1].upper() + word[start + 1 :], gap))
    return join_words(lead, titled)
