"""What a reader sees of a text: without invisible characters, and with Latin letters where other letters pose as them.

Such characters change how a language model splits a text, and with it every piece of evidence after them, while no reader
notices. The original is never changed: `Normalised` says where each character came from. Curly quotes and dashes stay, because
models read them as other tokens than the straight ones and marked text contains both.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from watermark.lookalikes import latin_letters

# Format characters without width, variation selectors, tags and fillers; not those that show, such as the Arabic number signs.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f"), " ")

# Where some of them carry meaning, or are how the script is written.
_JOINERS = "\u200c\u200d"
_JOINING = re.compile("[\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\ua840-\ua87f\ufb50-\ufdff\ufe70-\ufefc]")
_WORD_BREAK = "\u200b"
_WRITTEN_WITHOUT_SPACES = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf]")
_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_RIGHT_TO_LEFT = re.compile("[\u05d0-\u05f2\u0620-\u064a\u066e-\u06d3\u0710-\u072f\u0780-\u07a5\ufb1d-\ufdfb\ufe70-\ufefc]")
_LETTER = re.compile(r"[^\W\d_\u3164\uffa0]")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_WITH_SELECTORS = re.compile("[\u1000-\u109f\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u2139]")
_MONGOLIAN = re.compile("[\u1800-\u18af]")
_FLAG = re.compile("[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")  # Scotland's, behind a black one


@dataclass(frozen=True)
class Normalised:
    text: str
    origins: Sequence[int]
    """Where each character stood in the original, and the original's length at the end: rising, one longer than `text`."""

    def original_spans(self, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Characters start … end - 1 of `text` as spans of the original, without what was removed around them."""
        if isinstance(self.origins, range):  # nothing was removed
            return list(spans)
        return [(self.origins[start], self.origins[end - 1] + 1 if end > start else self.origins[start]) for start, end in spans]


def normalise(text: str) -> Normalised:
    """Doing it twice changes nothing more. Plain text in any script is its own normal form."""
    if text.isascii():
        return Normalised(text, range(len(text) + 1))
    kept = _visible(text)
    cleaned = text if len(kept) == 1 else "".join(text[start:end] for start, end in kept)
    # From here on characters are exchanged one for one, so that positions stay.
    cleaned = latin_letters(cleaned.translate(_SPACES))
    if len(cleaned) == len(text):
        return Normalised(cleaned, range(len(text) + 1))
    return Normalised(cleaned, [*itertools.chain.from_iterable(itertools.starmap(range, kept)), len(text)])


def _visible(text: str) -> list[tuple[int, int]]:
    """The stretches of a text that stay."""
    kept, start = [], 0
    right_to_left: bool | None = None
    for run in _INVISIBLE.finditer(text):
        if right_to_left is None and any(c in _DIRECTIONS for c in run[0]):
            right_to_left = 2 * len(_RIGHT_TO_LEFT.findall(text)) > len(_LETTER.findall(text))
        before, after = text[run.start() - 1 : run.start()], text[run.end() : run.end() + 1]
        meaningful = _meaningful(run[0], before, after, bool(right_to_left))
        kept.append((start, run.start()))
        kept += [(run.start() + a, run.start() + b) for a, b in meaningful]
        start = run.end()
    return [*kept, (start, len(text))]


def _meaningful(run: str, before: str, after: str, right_to_left: bool) -> list[tuple[int, int]]:
    """The parts of a run of invisible characters between two visible ones that belong to the writing; mostly there are none."""
    if before == "\U0001f3f4" and (flag := _FLAG.match(run)):
        return [flag.span()]
    found: list[tuple[int, int]] = []
    seen: set[str] = set()
    for i, c in enumerate(run):
        if c not in seen and len(found) < 2 and _belongs(c, before, after, right_to_left, bool(found)):  # two: ❤ selector joiner 🔥
            found.append((i, i + 1))
        seen.add(c)  # a repetition means nothing
    return found


def _belongs(c: str, before: str, after: str, right_to_left: bool, second: bool) -> bool:
    if c in _JOINERS:
        emoji = c == "\u200d" and _is_emoji(before) and _is_emoji(after)
        return emoji or bool(_JOINING.match(before) or _JOINING.match(after))
    if c == _WORD_BREAK:
        return bool(_WRITTEN_WITHOUT_SPACES.match(before) or _WRITTEN_WITHOUT_SPACES.match(after))
    if c in _DIRECTIONS:
        return right_to_left
    if _SELECTORS.match(c):
        keycap = before != "" and before in "0123456789#*" and after == "\u20e3"
        return not second and (keycap or _is_emoji(before) or bool(_WITH_SELECTORS.match(before)))
    return "\u180b" <= c <= "\u180f" and bool(_MONGOLIAN.match(before))


def _is_emoji(c: str) -> bool:
    """Or another symbol that may be drawn as one."""
    return c != "" and not c.isascii() and unicodedata.category(c) in ("So", "Sm", "Sk", "Po", "Pd")
