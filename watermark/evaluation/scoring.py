"""The fast part: verify texts from their strings alone, as they are and after each attack."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from watermark.codebook.keys import IssuerKey
from watermark.evaluation.attacks import Materials, attack
from watermark.evaluation.attacks.words import vocabulary
from watermark.evaluation.generation import Progress, WrittenText
from watermark.evaluation.records import Passage, Prompt, first_tokens

if TYPE_CHECKING:
    from watermark.pipeline import WatermarkedModel

VERIFIED_AT_ONCE = 32


@dataclass(frozen=True)
class Sample:
    """One text to verify, with the cell that it counts in."""

    length: int
    condition: str
    """`marked`, `unmarked` or `human`."""
    attack: str
    number: int
    source: str
    text: str
    marked_token_share: float | None
    """Before the attack; None where nothing was marked."""


@dataclass(frozen=True)
class Score:
    sample: Sample
    p_value: float
    detected: bool
    """The verdict was `marked`."""
    tokens: int


def human_samples(model: WatermarkedModel, passages: Sequence[Passage], length: int, count: int, seed: int) -> list[Sample]:
    """`count` human texts of `length` tokens, in an order drawn from the seed; too short ones are left out."""
    found: list[Sample] = []
    for i in np.random.default_rng([seed, length]).permutation(len(passages)):
        passage = passages[int(i)]
        text = first_tokens(model.lm, passage.text, length)
        if text is not None:
            found.append(Sample(length, "human", "clean", len(found), passage.source, text, None))
        if len(found) == count:
            break
    return found


def all_samples(
    model: WatermarkedModel,
    texts: Sequence[WrittenText],
    attacks: Sequence[str],
    passages: Sequence[Passage],
    *,
    seed: int,
    paraphraser: Sequence[str] = (),
) -> list[Sample]:
    """Marked text clean and under every attack, unmarked text, human text; as many human texts as prompts."""
    # Replacement words come from all unmarked texts in the run: real words at their real frequencies, none of them marked.
    words = vocabulary([*(t.text for t in texts if not t.marked), *(p.text for p in passages[:2000])])
    materials = Materials(words, [p.text for p in passages], paraphraser)
    edits = {name: attack(name, materials) for name in ("clean", *attacks)}
    samples = []
    for text in texts:
        for name in edits if text.marked else ("clean",):
            rng = np.random.default_rng([seed, text.length, text.number, zlib.crc32(name.encode())])
            share = text.marked_tokens / len(text.token_ids) if text.marked and text.token_ids and text.marked_tokens is not None else None
            condition = "marked" if text.marked else "unmarked"
            samples.append(Sample(text.length, condition, name, text.number, text.source, edits[name](text.text, rng), share))
    for length in dict.fromkeys(text.length for text in texts):
        count = sum(text.length == length and text.marked for text in texts)
        samples += human_samples(model, passages, length, count, seed)
    return samples


def human_passages(prompts: Sequence[Prompt]) -> list[Passage]:
    """The human continuations that came with the prompts."""
    return [Passage(prompt.human, prompt.source) for prompt in prompts if prompt.human]


def score(
    model: WatermarkedModel,
    samples: Sequence[Sample],
    keys: Sequence[IssuerKey],
    *,
    false_positive_rate: float,
    progress: Progress | None = None,
) -> list[Score]:
    """Verify every sample against one key, the one that its number fell to: marked text against its own key."""
    scores: list[Score] = []
    for position, key in enumerate(keys):
        of_key = sorted((s for s in samples if s.number % len(keys) == position), key=lambda sample: len(sample.text))
        for first in range(0, len(of_key), VERIFIED_AT_ONCE):
            batch = of_key[first : first + VERIFIED_AT_ONCE]
            verdicts = model.verify([s.text for s in batch], [key], false_positive_rate=false_positive_rate)
            scores += [Score(s, v.p_value, v.verdict == "marked", v.tokens) for s, v in zip(batch, verdicts, strict=True)]
            if progress:
                progress("verifying", len(scores), len(samples))
    return scores
