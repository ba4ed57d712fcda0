"""From scores and likelihoods to the numbers of the report, each with its sample size and interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from watermark.evaluation.generation import Job, WrittenText
from watermark.evaluation.quality import Likelihood, distinct_share, repeated_trigram_share
from watermark.evaluation.scoring import Score
from watermark.statistics.intervals import bootstrap_by_cluster, bootstrap_mean, clopper_pearson


def detection_cells(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """One record per (length, condition, attack), in that order of appearance."""
    groups: dict[tuple[int, str, str], list[Score]] = {}
    for score in sorted(scores, key=lambda s: s.sample.length):
        groups.setdefault((score.sample.length, score.sample.condition, score.sample.attack), []).append(score)
    return [
        {"length": length, "condition": condition, "attack": attack, **_cell(group)}
        for (length, condition, attack), group in sorted(groups.items(), key=_reading_order)
    ]


def _reading_order(item: tuple[tuple[int, str, str], Any]) -> tuple[int, int, bool, str]:
    length, condition, attack = item[0]
    return length, ("marked", "unmarked", "human").index(condition), attack != "clean", attack


def _cell(group: Sequence[Score]) -> dict[str, Any]:
    detected = sum(score.detected for score in group)
    shares = [s.sample.marked_token_share for s in group if s.sample.marked_token_share is not None]
    return {
        "n": len(group),
        "detected": detected,
        "share": detected / len(group),
        "interval": clopper_pearson(detected, len(group)),
        "median_p": statistics.median(score.p_value for score in group),
        "smallest_p": min(score.p_value for score in group),
        "mean_tokens": statistics.fmean(score.tokens for score in group),
        "mean_marked_token_share": statistics.fmean(shares) if shares else None,
        "by_source": _by_source(group),
    }


def _by_source(group: Iterable[Score]) -> dict[str, list[int]]:
    """Source to [detected, n]."""
    found: dict[str, list[int]] = {}
    for score in group:
        counts = found.setdefault(score.sample.source, [0, 0])
        counts[0] += score.detected
        counts[1] += 1
    return dict(sorted(found.items()))


def quality_cells(texts: Sequence[WrittenText], likelihoods: Mapping[Job, Likelihood], *, seed: int) -> list[dict[str, Any]]:
    """Marked against unmarked continuations of the same prompts, per length; intervals by bootstrap over prompts.

    `likelihoods` holds the longest texts; shorter ones are their beginnings.
    """
    cells = []
    longest = max((text.length for text in texts), default=0)
    for length in dict.fromkeys(text.length for text in texts):
        marked = {text.number: text for text in texts if text.length == length and text.marked}
        unmarked = {text.number: text for text in texts if text.length == length and not text.marked}
        pairs = [(marked[number], unmarked[number]) for number in sorted(marked.keys() & unmarked.keys())]
        if pairs:
            cells.append({"length": length, "n": len(pairs), **_quality(pairs, likelihoods, longest, seed)})
    return cells


def _quality(
    pairs: Sequence[tuple[WrittenText, WrittenText]], likelihoods: Mapping[Job, Likelihood], longest: int, seed: int
) -> dict[str, Any]:
    prompts = [marked.number for marked, _ in pairs]
    rows = [[v for text in pair for v in _nll_and_tokens(text, likelihoods, longest)] for pair in pairs]
    table = np.array(rows, dtype=np.float64)  # (pairs, 4): nll and tokens, marked, then unmarked
    trigrams = np.array([[repeated_trigram_share(text.text) for text in pair] for pair in pairs])
    distinct = np.array([[distinct_share(text.text, 2) for text in pair] for pair in pairs])
    sums = table.sum(0)
    return {
        "perplexity": {
            "marked": math.exp(sums[0] / sums[1]),
            "unmarked": math.exp(sums[2] / sums[3]),
            "ratio": float(_perplexity_ratio(sums)),
            "interval": bootstrap_by_cluster(table, prompts, _perplexity_ratio, seed=seed),
        },
        "repeated_trigrams": _difference(trigrams, prompts, seed),
        "distinct_2": _difference(distinct, prompts, seed),
    }


def _nll_and_tokens(text: WrittenText, likelihoods: Mapping[Job, Likelihood], longest: int) -> tuple[float, int]:
    count = len(text.token_ids)
    return likelihoods[Job(longest, text.number, text.marked)].first(count), count


def similarity_cell(numbers: Sequence[int], human: Tensor, marked: Tensor, unmarked: Tensor, *, seed: int) -> dict[str, Any]:
    """Cosine of marked and of unmarked continuations to the human one, embeddings (prompts, hidden) each."""
    values = torch.stack([(marked * human).sum(-1), (unmarked * human).sum(-1)], dim=1).double().numpy()
    return {"n": len(numbers), **_difference(values, numbers, seed)}


def _perplexity_ratio(sums: np.ndarray) -> np.ndarray:
    return np.exp(sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3])


def _difference(values: np.ndarray, prompts: Sequence[int], seed: int) -> dict[str, Any]:
    """Means over texts, values of shape (pairs, 2), and their difference."""
    marked, unmarked = (float(mean) for mean in values.mean(0))
    interval = bootstrap_mean(values[:, 0] - values[:, 1], prompts, seed=seed)
    return {"marked": marked, "unmarked": unmarked, "difference": marked - unmarked, "interval": interval}
