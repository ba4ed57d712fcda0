"""Latin letters for letters that look like them: Cyrillic, Greek, Armenian, Cherokee, full-width and mathematical ones.

Only in a text where somebody demonstrably exchanges letters: where a word mixes scripts, or is written in such dress. There, a word
that has Latin letters of its own is Latin, and every lookalike in it stands for one. A word of nothing but lookalikes ("сор") may
just as well be Russian; it is taken for Latin only if the nearest words that leave no doubt are.
"""

from __future__ import annotations

import re
import unicodedata

# Pairs: the lookalike, then the letter. From Unicode's list of confusable characters, with case kept, and к κ as in most fonts.
_CYRILLIC = "аa сc ԁd еe һh іi ӏl јj кk оo рp ԛq ѕs ѵv ԝw хx уy үy АA ВB СC ЕE НH ІI ӀI ЈJ КK МM ОO РP ЅS ТT ѴV ԜW ХX УY ҮY"
_GREEK = "οo ϲc ϳj ΑA ΒB ϹC ΕE ΗH ΙI ͿJ ΚK ΜM ΝN ΟO ΡP ΤT ΧX ΥY ΖZ"
_ARMENIAN = "ցg հh յj ոn օo զq սu ՕO ՍU"
_CHEROKEE = "ᎪA ᏴB ᏟC ᎠD ᎬE ᏀG ᎻH ᎫJ ᏦK ᏞL ᎷM ᏢP ᎡR ᏚS ᎢT ᏙV ᎳW ᎩY ᏃZ"


def _pairs(listed: str) -> dict[int, str]:
    return {ord(pair[0]): pair[1] for pair in listed.split()}


def _restyled() -> dict[int, str]:
    """Full-width and mathematical letters: Latin ones in another dress, as compatibility decomposition says. ℹ is an emoji."""
    codes = [*range(0x2100, 0x2139), *range(0x213A, 0x2150), *range(0xFF21, 0xFF5B), *range(0x1D400, 0x1D6A4)]
    found = {}
    for code in codes:
        style, _, letter = unicodedata.decomposition(chr(code)).partition(" ")
        if style in ("<font>", "<wide>"):
            found[code] = chr(int(letter, 16))
    return {code: letter for code, letter in found.items() if letter.isascii() and letter.isalpha()}


_RESTYLED = _restyled()
_GREEK_SYMBOLS = _pairs("αa γy ιi κk νv ρp σo υu")
_LETTERS = {**_RESTYLED, **_pairs(_CYRILLIC), **_pairs(_GREEK), **_GREEK_SYMBOLS, **_pairs(_ARMENIAN), **_pairs(_CHEROKEE)}

_LOOKALIKE = re.compile(f"[{''.join(map(chr, _LETTERS))}]")
_WORD = re.compile("[^\\W\\d_](?:[^\\W\\d_]|[\u0300-\u036f])*")
_LATIN = re.compile("[A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff]")


def latin_letters(text: str) -> str:
    """A text of the same length. Words in other scripts stay as they are."""
    if not _LOOKALIKE.search(text):
        return text
    found: list[re.Match[str]] = []  # words to be written in Latin
    doubtful: list[re.Match[str]] = []  # nothing but lookalikes, since the last word that leaves no doubt
    likely: list[re.Match[str]] = []  # doubtful ones between Latin words
    latin = True  # that last word, or there was none yet
    for match in _WORD.finditer(text):
        if match[0].isascii():
            own, alike, foreign = 1, 0, 0
        else:
            own, alike = len(_LATIN.findall(match[0])), len(_LOOKALIKE.findall(match[0]))
            foreign = sum(map(str.isalpha, match[0])) - own - alike
        if alike and not own and not foreign:
            doubtful.append(match)
            continue
        if own > foreign:
            likely += doubtful if latin else []
            found += [match] if alike else []
        latin, doubtful = own > foreign, []
    likely += doubtful if latin else []
    if not any(map(_proves_exchange, found)) and not any(_is_restyled(match[0]) for match in likely):
        return text
    characters = list(text)
    for match in (*found, *likely):
        characters[match.start() : match.end()] = match[0].translate(_LETTERS)
    return "".join(characters)


def _proves_exchange(match: re.Match[str]) -> bool:
    """Of a word with Latin letters and lookalikes. In short words Greek small letters may be symbols: "σx", "ρgh", "νe"."""
    return len(match[0]) >= 4 or any(ord(c) in _LETTERS and ord(c) not in _GREEK_SYMBOLS for c in match[0])


def _is_restyled(word: str) -> bool:
    """A single such letter may be a symbol as well."""
    return len(word) > 1 and all(ord(c) in _RESTYLED for c in word)
