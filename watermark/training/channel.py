"""The edit channel: what happens to a marked text between the embedder and the extractor.

Works on token sequences and keeps the correspondence, so that training knows which edited position still carries which
original token: deletion, insertion and substitution of tokens, in single places or runs, cropping at both ends; the prompt
is always dropped, since a verifier never sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOREIGN = -1
"""Origin of a token that the embedder did not write."""


@dataclass(frozen=True)
class Edits:
    """Rates per token; `run` is the mean length of an edited run (1 = single tokens)."""

    delete: float = 0.0
    insert: float = 0.0
    substitute: float = 0.0
    crop: float = 0.0
    """Largest share cut off, split at random between both ends."""
    run: float = 1.0


@dataclass(frozen=True)
class Edited:
    ids: np.ndarray
    """Token ids after editing, int64 (T′,)."""
    origin: np.ndarray
    """Index of each one in the original, int64 (T′,); `FOREIGN` where it was inserted or substituted."""


def draw_edits(rng: np.random.Generator) -> Edits:
    """A random severity, from untouched (one in eight) to a third of the tokens edited."""
    if rng.random() < 0.125:
        return Edits()
    kind = rng.integers(4)
    rate = rng.uniform(0.05, 0.35)
    run = rng.choice([1.0, 1.5, 3.0])
    crop = rng.choice([0.0, 0.0, 0.5])
    if kind == 0:
        return Edits(delete=rate, crop=crop, run=run)
    if kind == 1:
        return Edits(substitute=rate, crop=crop, run=run)
    if kind == 2:
        return Edits(insert=rate, crop=crop, run=run)
    return Edits(delete=rate / 3, insert=rate / 3, substitute=rate / 3, crop=crop, run=run)


def _places(rng: np.random.Generator, length: int, rate: float, run: float) -> np.ndarray:
    """Boolean (length,): True in runs of geometric length with mean `run`, covering `rate` of the places on average."""
    if rate <= 0:
        return np.zeros(length, dtype=bool)
    hit = np.zeros(length, dtype=bool)
    starts = np.flatnonzero(rng.random(length) < rate / run)
    for start, size in zip(starts, rng.geometric(1.0 / run, size=len(starts)), strict=True):
        hit[start : start + size] = True
    return hit


def apply_edits(ids: np.ndarray, edits: Edits, foreign: np.ndarray, rng: np.random.Generator) -> Edited:
    """Edit `ids` (T,); foreign tokens are drawn from `foreign`, any pool of natural token ids."""
    length = len(ids)
    cut = int(rng.uniform(0, edits.crop) * length)
    start = int(rng.integers(0, cut + 1))
    span = np.arange(start, length - (cut - start))
    deleted = _places(rng, len(span), edits.delete, edits.run)
    swapped = _places(rng, len(span), edits.substitute, edits.run)
    inserted = _places(rng, len(span), edits.insert, edits.run)
    out_ids: list[int] = []
    origin: list[int] = []
    for i, t in enumerate(span):
        if inserted[i]:
            out_ids.append(int(rng.choice(foreign)))
            origin.append(FOREIGN)
        if swapped[i]:
            out_ids.append(int(rng.choice(foreign)))
            origin.append(FOREIGN)
        elif not deleted[i]:
            out_ids.append(int(ids[t]))
            origin.append(int(t))
    return Edited(np.asarray(out_ids, dtype=np.int64), np.asarray(origin, dtype=np.int64))
