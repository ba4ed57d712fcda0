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
from watermark.evaluation.attacks.spans import copy_paste, first_half, last_half
from watermark.evaluation.attacks.words import delete_words, lower_case, strip_punctuation, substitute_words

Attack = Callable[[str, np.random.Generator], str]

PLAIN: dict[str, Callable[[str], str]] = {
    "clean": lambda text: text,
    "lower-case": lower_case,
    "strip-punctuation": strip_punctuation,
    "first-half": first_half,
    "last-half": last_half,
}
WITH_PERCENTAGE = ("delete", "substitute", "copy-paste")


@dataclass(frozen=True)
class Materials:
    """What attacks put into a text that was not there."""

    words: Sequence[str] = ()
    """Replacement words; a word listed more often is drawn more often."""
    passages: Sequence[str] = ()
    """Human texts to paste into."""


def attack(name: str, materials: Materials) -> Attack:
    """The attack called `name`. Raises InvalidInput for an unknown name, a bad percentage, or materials that it lacks."""
    if name in PLAIN:
        plain = PLAIN[name]
        return lambda text, rng: plain(text)
    match = re.fullmatch(r"(.+)-(\d{1,2})", name)
    if match is None or match[1] not in WITH_PERCENTAGE or int(match[2]) == 0:
        raise InvalidInput(
            f"Unknown attack {name!r}. Known: {', '.join(PLAIN)}, and {', '.join(f'{kind}-N' for kind in WITH_PERCENTAGE)} "
            "with N from 1 to 99 percent."
        )
    kind, share = match[1], int(match[2]) / 100
    if kind == "delete":
        return lambda text, rng: delete_words(text, rng, share)
    if kind == "substitute":
        if not materials.words:
            raise InvalidInput(f"Attack {name!r} needs replacement words, and there are no texts to take them from.")
        return lambda text, rng: substitute_words(text, rng, share, materials.words)
    if not materials.passages:
        raise InvalidInput(f"Attack {name!r} needs human texts to paste into; none were given.")
    return lambda text, rng: copy_paste(text, rng, share, materials.passages)
