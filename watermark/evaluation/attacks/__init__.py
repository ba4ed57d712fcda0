"""Edits that a marked text may go through before it is verified, by name.

An attack is a pure function (text, rng) -> text. Names with a number take a percentage: `delete-10`, `substitute-30`,
`copy-paste-25`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from watermark.errors import InvalidInput
from watermark.evaluation.attacks.characters import homoglyphs, title_case, typos, upper_case, zero_width
from watermark.evaluation.attacks.programs import check_apertium, check_paraphraser, paraphrase, round_trip_spanish
from watermark.evaluation.attacks.spans import copy_paste, first_half, last_half, shuffle_sentences
from watermark.evaluation.attacks.synonyms import replace_synonyms
from watermark.evaluation.attacks.wordnet import load_wordnet
from watermark.evaluation.attacks.words import delete_words, insert_words, lower_case, strip_punctuation, substitute_words, swap_words

Attack = Callable[[str, np.random.Generator], str]

PLAIN: dict[str, Callable[[str], str]] = {
    "clean": lambda text: text,
    "lower-case": lower_case,
    "upper-case": upper_case,
    "title-case": title_case,
    "strip-punctuation": strip_punctuation,
    "first-half": first_half,
    "last-half": last_half,
}


@dataclass(frozen=True)
class Materials:
    """What attacks put into a text that was not there, or have it rewritten by."""

    words: Sequence[str] = ()
    """Words to insert and to replace others with; a word listed more often is drawn more often."""
    passages: Sequence[str] = ()
    """Human texts to paste into."""
    paraphraser: Sequence[str] = ()
    """A folder with an instruct model; or a command and its arguments, which reads a text on standard input and prints the paraphrase."""


def _shuffle_sentences(materials: Materials) -> Attack:
    return shuffle_sentences


def _synonyms(materials: Materials) -> Attack:
    load_wordnet()
    return replace_synonyms


def _round_trip_spanish(materials: Materials) -> Attack:
    check_apertium()
    return lambda text, rng: round_trip_spanish(text)


def _paraphrase(materials: Materials) -> Attack:
    check_paraphraser(materials.paraphraser)
    return lambda text, rng: paraphrase(text, rng, materials.paraphraser)


def _some_synonyms(share: float, materials: Materials) -> Attack:
    load_wordnet()
    return lambda text, rng: replace_synonyms(text, rng, share)


def _substitute(share: float, materials: Materials) -> Attack:
    if not materials.words:
        raise InvalidInput("The attack 'substitute-N' needs replacement words, and there are no texts to take them from.")
    return lambda text, rng: substitute_words(text, rng, share, materials.words)


def _insert(share: float, materials: Materials) -> Attack:
    if not materials.words:
        raise InvalidInput("The attack 'insert-N' needs words to insert, and there are no texts to take them from.")
    return lambda text, rng: insert_words(text, rng, share, materials.words)


def _copy_paste(share: float, materials: Materials) -> Attack:
    if not materials.passages:
        raise InvalidInput("The attack 'copy-paste-N' needs human texts to paste into; none were given.")
    return lambda text, rng: copy_paste(text, rng, share, materials.passages)


def _at_rate(function: Callable[[str, np.random.Generator, float], str]) -> Callable[[float, Materials], Attack]:
    return lambda share, materials: lambda text, rng: function(text, rng, share)


PREPARED: dict[str, Callable[[Materials], Attack]] = {
    "shuffle-sentences": _shuffle_sentences,
    "synonyms": _synonyms,
    "round-trip-spanish": _round_trip_spanish,
    "paraphrase": _paraphrase,
}
"""Attacks that draw at random, or need something beyond the text."""
WITH_PERCENTAGE: dict[str, Callable[[float, Materials], Attack]] = {
    "delete": _at_rate(delete_words),
    "insert": _insert,
    "substitute": _substitute,
    "synonyms": _some_synonyms,
    "swap": _at_rate(swap_words),
    "typos": _at_rate(typos),
    "homoglyphs": _at_rate(homoglyphs),
    "zero-width": _at_rate(zero_width),
    "copy-paste": _copy_paste,
}
NAMES = (*PLAIN, *PREPARED, *(f"{kind}-N" for kind in WITH_PERCENTAGE))
"""All names, for help and messages; N stands for 1 to 99 percent."""


def attack(name: str, materials: Materials) -> Attack:
    """The attack called `name`. Raises InvalidInput for an unknown name, a bad percentage, or anything that it lacks."""
    if name in PLAIN:
        plain = PLAIN[name]
        return lambda text, rng: plain(text)
    if name in PREPARED:
        return PREPARED[name](materials)
    match = re.fullmatch(r"(.+)-([1-9]\d?)", name, re.ASCII)
    if match is None or match[1] not in WITH_PERCENTAGE:
        raise InvalidInput(f"Unknown attack {name!r}. Known: {', '.join(NAMES)}, with N from 1 to 99 percent.")
    return WITH_PERCENTAGE[match[1]](int(match[2]) / 100, materials)
