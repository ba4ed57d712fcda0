"""What marking does to a text, against unmarked text of the same prompts: likelihood, repetition, likeness, variety over many draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from watermark.base_model import FrozenLM
from watermark.benchmark.methods import Order, Writer
from watermark.evaluation.generation import Job, Progress, WorkFolder, WrittenText, beginning, text_seed
from watermark.evaluation.quality import Likelihood, distinct_share, embeddings, likelihoods
from watermark.evaluation.records import Prompt
from watermark.evaluation.report import quality_cells
from watermark.inference.torch_lm import TorchLM
from watermark.sampling.requests import SamplingSettings
from watermark.statistics.intervals import bootstrap_mean

SIMILARITY_TOKENS = 100
DIVERSITY_TOKENS = 60
DIVERSITY_SEEDS = 2**20
"""Where the numbers of seeds for many draws begin, apart from those of the texts."""
DRAWN_TOGETHER = 1000
"""More than there are ever draws of one prompt."""


def measured_likelihoods(judge: TorchLM, name: str, texts: Sequence[WrittenText], work: WorkFolder, progress: Progress) -> list[Likelihood]:
    """Of every text after its prompt, in the tokens of `judge`, called `name` on record."""
    found = {r["number"]: Likelihood(tuple(r["nlls"])) for r in work.read("likelihoods.jsonl") if r["judge"] == name}
    missing = [text for text in texts if text.number not in found]
    stage = f"{work.folder.name}: likelihood by {name}"

    def keep(indices: list[int], results: list[Likelihood]) -> None:
        new = {missing[i].number: result for i, result in zip(indices, results, strict=True)}
        found.update(new)
        work.append("likelihoods.jsonl", ({"judge": name, "number": i, "nlls": one.nlls} for i, one in new.items()))
        progress(stage, len(found), len(texts))

    prompts = [judge.tokenize(text.prompt).ids for text in missing]
    likelihoods(judge, prompts, [text.token_ids for text in missing], on_batch=keep)
    return [found[text.number] for text in texts]


def in_tokens_of(judge: TorchLM, text: WrittenText) -> WrittenText:
    """The text as another model splits it."""
    tokens = judge.tokenize(text.text)
    return replace(text, token_ids=tuple(tokens.ids[tokens.prefix :]))


def quality(
    lm: FrozenLM,
    lengths: Sequence[int],
    pair: tuple[Sequence[WrittenText], Sequence[WrittenText]],
    measured: tuple[Sequence[Likelihood], Sequence[Likelihood]],
    seed: int,
) -> list[dict[str, Any]]:
    """Cells of `evaluation.report.quality_cells` for (marked, unmarked) texts of the same prompts, written by `lm`."""
    table = {
        Job(text.length, text.number, marked): likelihood
        for marked, texts, found in zip((True, False), pair, measured, strict=True)
        for text, likelihood in zip(texts, found, strict=True)
    }
    cut = [
        replace(beginning(lm, text, length), marked=marked)
        for length in lengths
        for marked, texts in zip((True, False), pair, strict=True)
        for text in texts
    ]
    return quality_cells(cut, table, seed=seed)


def independent_perplexity(
    pair: tuple[Sequence[Likelihood], Sequence[Likelihood]], characters: tuple[Sequence[int], Sequence[int]]
) -> dict[str, float]:
    """By another model. Its tokens are not ours, so nats per character are given beside its perplexity."""
    found = {}
    for name, likelihoods_, counts in zip(("marked", "unmarked"), pair, characters, strict=True):
        total = sum(sum(one.nlls) for one in likelihoods_)
        found[name] = math.exp(total / sum(len(one.nlls) for one in likelihoods_))
        found[f"{name}_nats_per_character"] = total / sum(counts)
    return found


def similarity(
    judge: TorchLM,
    prompts: Sequence[Prompt],
    marked: Sequence[WrittenText],
    unmarked: Sequence[WrittenText],
    work: WorkFolder,
    *,
    seed: int,
    progress: Progress,
) -> dict[str, Any] | None:
    """Cosine to what a person wrote after the same prompt; None if no prompt has a human continuation."""
    numbers = [text.number for text in marked if prompts[text.number].human]
    if not numbers:
        return None
    rows = work.read("similarity.jsonl")
    if [row["number"] for row in rows] != numbers:
        progress(f"{work.folder.name}: likeness", 0, 1)
        by_number = [{text.number: text.text for text in texts} for texts in (marked, unmarked)]
        columns = [[prompts[i].human for i in numbers], *([texts[i] for i in numbers] for texts in by_number)]
        vectors = embeddings(judge, [text for column in columns for text in column], SIMILARITY_TOKENS)
        human, *others = vectors.split(len(numbers))
        cosines = [(human * other).sum(-1).tolist() for other in others]
        rows = [{"number": i, "marked": m, "unmarked": u} for i, m, u in zip(numbers, *cosines, strict=True)]
        work.replace("similarity.jsonl", rows)
        progress(f"{work.folder.name}: likeness", 1, 1)
    differences = [row["marked"] - row["unmarked"] for row in rows]
    return {
        "n": len(rows),
        "tokens": SIMILARITY_TOKENS,
        "marked": float(np.mean([row["marked"] for row in rows])),
        "unmarked": float(np.mean([row["unmarked"] for row in rows])),
        "difference": float(np.mean(differences)),
        "interval": bootstrap_mean(differences, numbers, seed=seed),
    }


def draws(
    method: Writer,
    prompts: Sequence[Prompt],
    shape: tuple[int, int],
    sampling: SamplingSettings,
    work: WorkFolder,
    *,
    lm: FrozenLM,
    seed: int,
    progress: Progress,
) -> list[list[str]]:
    """Many continuations of each of the first prompts, by one key: shape is (prompts, continuations)."""
    count, times = min(shape[0], len(prompts)), shape[1]
    done = {(record["prompt"], record["draw"]): record["text"] for record in work.read("draws.jsonl")}
    sampling = replace(sampling, max_new_tokens=min(DIVERSITY_TOKENS, sampling.max_new_tokens))
    for number in range(count):
        missing = [draw for draw in range(times) if (number, draw) not in done]
        if missing:
            progress(f"{method.name}: many draws", number, count)
            seeds = [text_seed(seed, DIVERSITY_SEEDS + number * DRAWN_TOGETHER + draw) for draw in missing]
            written = method.write([Order(number, prompts[number].text, one) for one in seeds], sampling)
            records = [{"prompt": number, "draw": draw, "text": lm.decode(ids)} for draw, ids in zip(missing, written, strict=True)]
            work.append("draws.jsonl", records)
            done.update(((record["prompt"], record["draw"]), record["text"]) for record in records)
    progress(f"{method.name}: many draws", count, count)
    return [[done[number, draw] for draw in range(times)] for number in range(count)]


def diversity(texts: Sequence[Sequence[str]], seed: int) -> dict[str, Any]:
    """Over all continuations of one prompt, averaged over prompts: the share of different texts, and distinct-2 and distinct-4 (Li et al.,
    NAACL 2016) of their words taken together."""
    columns = {
        "different_texts": [len(set(of_prompt)) / len(of_prompt) for of_prompt in texts],
        "distinct_2": [distinct_share("\n".join(of_prompt), 2) for of_prompt in texts],
        "distinct_4": [distinct_share("\n".join(of_prompt), 4) for of_prompt in texts],
    }
    found: dict[str, Any] = {"prompts": len(texts), "continuations": len(texts[0]), "tokens": DIVERSITY_TOKENS}
    for name, values in columns.items():
        found[name] = float(np.mean(values))
        found[f"{name}_interval"] = bootstrap_mean(values, range(len(values)), seed=seed)
    return found
