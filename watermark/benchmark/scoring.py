"""Scores of every text by every method, kept by cell: marked text clean and attacked, unmarked model text, human text."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from watermark.base_model import FrozenLM
from watermark.benchmark.methods import Detection, Method
from watermark.evaluation.attacks import Materials, attack
from watermark.evaluation.generation import Progress, WorkFolder, WrittenText, beginning
from watermark.evaluation.records import Passage, first_tokens

AT_ONCE = 128
"""Texts scored between two records on disk."""


@dataclass(frozen=True)
class Cell:
    """Texts of one kind and length."""

    condition: str
    """`marked`, `unmarked` or `human`."""
    attack: str
    length: int

    def __str__(self) -> str:
        return f"{self.condition} {self.attack} {self.length}"


Texts = dict[Cell, list[str]]
Scores = dict[Cell, list[Detection]]


def human_texts(lm: FrozenLM, passages: Sequence[Passage], lengths: Sequence[int], count: int, seed: int) -> Texts:
    """The beginnings of `count` passages at every length, in an order drawn from the seed; too short ones are left out."""
    found: Texts = {Cell("human", "clean", length): [] for length in lengths}
    for i in np.random.default_rng(seed).permutation(len(passages)):
        for cell, texts in found.items():
            text = first_tokens(lm, passages[int(i)].text, cell.length) if len(texts) < count else None
            if text is not None:
                texts.append(text)
        if all(len(texts) >= count for texts in found.values()):
            break
    return found


def model_texts(
    lm: FrozenLM, texts: Sequence[WrittenText], lengths: Sequence[int], attacks: Sequence[str], materials: Materials, seed: int
) -> Texts:
    """Marked text at every length and under every attack, the same random edits for every method; unmarked text as it is."""
    found: Texts = {}
    for length in lengths:
        beginnings = [beginning(lm, text, length) for text in texts]
        for name in ("clean", *attacks) if texts[0].marked else ("clean",):
            edit = attack(name, materials)
            rngs = (np.random.default_rng([seed, length, text.number, zlib.crc32(name.encode())]) for text in beginnings)
            condition = "marked" if texts[0].marked else "unmarked"
            found[Cell(condition, name, length)] = [edit(text.text, rng) for text, rng in zip(beginnings, rngs, strict=True)]
    return found


def score(method: Method, texts: Mapping[Cell, Sequence[str]], work: WorkFolder, progress: Progress) -> Scores:
    """What is not on record yet is scored, and put there."""
    detector = method.detector()
    done = {(record["cell"], record["number"]): Detection(record["score"], record["p_value"]) for record in work.read("scores.jsonl")}
    missing = [(cell, i) for cell, of_cell in texts.items() for i in range(len(of_cell)) if (str(cell), i) not in done]
    total = sum(map(len, texts.values()))
    for first in range(0, len(missing), AT_ONCE):
        progress(f"{method.name}: detecting", total - len(missing) + first, total)
        batch = missing[first : first + AT_ONCE]
        found = detector([texts[cell][i] for cell, i in batch], [i for _, i in batch])
        work.append(
            "scores.jsonl",
            (
                {"cell": str(cell), "number": i, "score": one.score, "p_value": one.p_value}
                for (cell, i), one in zip(batch, found, strict=True)
            ),
        )
        done.update(((str(cell), i), one) for (cell, i), one in zip(batch, found, strict=True))
    progress(f"{method.name}: detecting", total, total)
    return {cell: [done[str(cell), i] for i in range(len(of_cell))] for cell, of_cell in texts.items()}
