"""Words replaced by WordNet synonyms of the same part of speech and in the same form. English only; other words stay.

A word is read as the part of speech in which WordNet's tagged corpus has it most often, unless the word before rules that out;
its sense is the most frequent one that has a synonym. Both are right for most words, not for all: so is a hasty human editor.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from watermark.evaluation.attacks.wordnet import PARTS, load_wordnet
from watermark.evaluation.attacks.words import choose, join_words, split_words


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words of closed classes, which WordNet knows only in other meanings ("a" the vitamin, "in" the inch) or whose exchange is no
# exchange of synonyms ("be" for "exist").
_FUNCTION_WORDS = _listed(
    """
    a about above across after again against ago ahead all almost along already also although always am amid among amongst an and
    another any anyone anything anywhere apart are around as aside at away back be became because become becomes been before behind
    being below beneath beside besides between beyond both but by can cannot could did do does doing done down due during each either
    else enough even ever every everyone everything everywhere except few fewer first for forth from further get gets getting given go
    goes going gone got had has have having he hence her here hers herself him himself his how however i if in inside instead into is
    it its itself just last least less let like likely lot lots many may me might mine more most much must my myself near neither never
    next no nobody none nor not nothing now nowhere of off often on once one ones only onto or other others otherwise ought our ours
    ourselves out outside over own part per perhaps quite rather round same second several shall she should since so some somebody
    someone something sometimes somewhere still such than that the their theirs them themselves then there thereby therefore these they
    third this those though through throughout thus till to together too toward towards twice two under unless until up upon us used
    very was way we well went were what whatever when whenever where whereas wherever whether which while who whoever whole whom whose
    why will with within without would yes yet you your yours yourself yourselves three four five six seven eight nine ten hundred
    thousand million
    """
)
_BEFORE_NOUNS = _listed("a an the this these those my your his her its our their each every some any no another such")
_BEFORE_VERBS = _listed("to will would can could may might shall should must cannot i you he she we they who")
_BEFORE_PARTICIPLES = _listed("am is are was were be been being have has had having get gets got")
_CORE = re.compile(r"[A-Za-z]+")
_ENDS_SENTENCE = re.compile(r"[.!?:…][\"'”’»)\]]*$")


def replace_synonyms(text: str, rng: np.random.Generator, share: float = 1.0) -> str:
    """With every word replaced that has a synonym, or with `share` of all words (rounded) as far as so many have one."""
    lead, words = split_words(text)
    found: dict[int, tuple[int, int, tuple[str, ...]]] = {}  # word to (from, to, synonyms)
    before, starts = "", True
    for i, (word, gap) in enumerate(words):
        core = _whole_word(word)
        if core and (starts or core[0].islower()):  # inside a sentence a capital marks a name
            synonyms = _synonyms(core[0].lower(), _hint(before))
            if synonyms and (core[0].islower() or core[0].istitle()):
                found[i] = (*core.span(), synonyms)
        before = core[0].lower() if core else ""
        starts = bool(_ENDS_SENTENCE.search(word)) or "\n" in gap
    wanted = min(round(share * len(words)), len(found))
    places = list(found)
    for i in sorted(places[k] for k in choose(len(places), wanted, rng)):
        (word, gap), (start, end, synonyms) = words[i], found[i]
        new = synonyms[int(rng.integers(len(synonyms)))]
        words[i] = (word[:start] + (new.capitalize() if word[start].isupper() else new) + word[end:], gap)
    return join_words(lead, words)


def _whole_word(word: str) -> re.Match[str] | None:
    """The letters between the punctuation around a word; None for compounds, contractions, figures and other scripts."""
    core = _CORE.search(word)
    rest = word[: core.start()] + word[core.end() :] if core else ""
    return core if core and not any(c.isalnum() for c in rest) and word[core.end() : core.end() + 1] not in ("'", "’") else None


def _hint(before: str) -> str:
    """What the word before says about the next one: noun, verb, participle, or nothing."""
    kinds = (("noun", _BEFORE_NOUNS), ("verb", _BEFORE_VERBS), ("participle", _BEFORE_PARTICIPLES))
    return next((kind for kind, words in kinds if before in words), "")


@functools.lru_cache(maxsize=2**16)
def _synonyms(word: str, hint: str) -> tuple[str, ...]:
    """Synonyms in the form that the word has."""
    if len(word) < 3 or word in _FUNCTION_WORDS:
        return ()
    wordnet = load_wordnet()
    import lemminflect  # an optional dependency, and only this attack needs it

    readings = [(lemma, part) for part, lemmas in lemminflect.getAllLemmas(word).items() if part in PARTS for lemma in lemmas]
    readings = [reading for reading in readings if reading in wordnet]
    excluded = {"noun": "VERB", "verb": "NOUN"}.get(hint)
    readings = [reading for reading in readings if reading[1] != excluded] or readings
    if not readings:
        return ()
    lemma, part = max(readings, key=lambda reading: wordnet.count(*reading))
    tags = [tag for tag, forms in lemminflect.getAllInflections(lemma, part).items() if word in forms]
    if not tags:
        return ()
    # A form may serve several purposes: "sheep", "put"; and "walked" is a participle in "was walked" and "the walked mile".
    participle = hint in ("participle", "noun")
    tags.sort(key=lambda tag: (word == lemma and len(tag) > 2, (tag == "VBN") != participle))
    forms = [lemminflect.getInflection(synonym, tags[0], inflect_oov=False) for synonym in wordnet.synonyms(lemma, part)]
    return tuple(dict.fromkeys(form[0] for form in forms if form and form[0] != word))
