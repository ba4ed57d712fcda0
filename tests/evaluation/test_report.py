"""The report's arithmetic on numbers that can be checked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from watermark.evaluation.generation import Job, WrittenText
from watermark.evaluation.quality import Likelihood
from watermark.evaluation.report import detection_cells, quality_cells, similarity_cell
from watermark.evaluation.scoring import Sample, Score
from watermark.statistics.intervals import clopper_pearson


def scored(number: int, p: float, condition: str = "marked", attack: str = "clean", share: float | None = 0.5, length: int = 50) -> Score:
    sample = Sample(length, condition, attack, number, "odd" if number % 2 else "even", "text", share)
    return Score(sample, p, p < 1e-3, 40 + number)


def test_detection_cell() -> None:
    [cell] = detection_cells(
        [scored(0, 1e-9, share=0.4), scored(1, 1e-5, share=0.6), scored(2, 0.2, share=0.8), scored(3, 1e-4, share=1.0)]
    )
    assert (cell["n"], cell["detected"], cell["share"]) == (4, 3, 0.75)
    assert cell["interval"] == clopper_pearson(3, 4)
    assert cell["median_p"] == pytest.approx((1e-5 + 1e-4) / 2) and cell["smallest_p"] == 1e-9
    assert cell["mean_tokens"] == 41.5 and cell["mean_marked_token_share"] == pytest.approx(0.7)
    assert cell["by_source"] == {"even": [1, 2], "odd": [2, 2]}


def test_cells_are_kept_apart_and_in_reading_order() -> None:
    scores = [
        scored(0, 0.5, "human", share=None, length=100),
        scored(0, 0.5, attack="delete-10", length=100),
        scored(0, 1e-9, length=100),
        scored(0, 0.5, "unmarked", share=None),
        scored(0, 1e-9),
    ]
    cells = [(c["length"], c["condition"], c["attack"], c["detected"], c["mean_marked_token_share"]) for c in detection_cells(scores)]
    assert cells == [
        (50, "marked", "clean", 1, 0.5),
        (50, "unmarked", "clean", 0, None),
        (100, "marked", "clean", 1, 0.5),
        (100, "marked", "delete-10", 0, 0.5),
        (100, "human", "clean", 0, None),
    ]


def written(number: int, marked: bool, text: str, length: int = 50) -> WrittenText:
    return WrittenText(length, number, marked, "s", "prompt", text, tuple(range(10 if number == 0 else 30)), 1, 7)


def test_quality_is_token_weighted_and_paired() -> None:
    texts = [
        written(0, True, "a b c a b c"),
        written(0, False, "a b c d e f"),
        written(1, True, "one two three"),
        written(1, False, "one two three"),
        written(2, True, "no partner, so it does not count"),
    ]
    likelihoods = {
        Job(50, 0, True): Likelihood((3.0,) * 10),
        Job(50, 0, False): Likelihood((2.0,) * 10),
        Job(50, 1, True): Likelihood((3.0,) * 30),
        Job(50, 1, False): Likelihood((2.0,) * 30),
        Job(50, 2, True): Likelihood((9.0,) * 30),
    }
    [cell] = quality_cells(texts, likelihoods, seed=0)
    assert cell["n"] == 2
    assert cell["perplexity"]["marked"] == pytest.approx(math.exp(120 / 40))
    assert cell["perplexity"]["unmarked"] == pytest.approx(math.exp(80 / 40))
    # Both prompts change by exactly one nat per token: paired, the ratio has no spread at all.
    assert cell["perplexity"]["ratio"] == pytest.approx(math.e)
    assert cell["perplexity"]["interval"] == pytest.approx((math.e, math.e))
    trigrams = cell["repeated_trigrams"]
    assert trigrams["marked"] == pytest.approx((1 - 3 / 4) / 2) and trigrams["unmarked"] == 0.0
    assert trigrams["difference"] == pytest.approx(0.125) and trigrams["interval"] == (0.0, 0.25)


def test_quality_of_a_beginning_counts_its_own_tokens() -> None:
    """Texts of 50 tokens cut after 10: the likelihoods are those of the whole texts."""
    whole = [WrittenText(50, 0, marked, "s", "prompt", "a b c", tuple(range(50)), 1, 7) for marked in (True, False)]
    cut = [replace(text, length=10, token_ids=text.token_ids[:10], marked_tokens=None) for text in whole]
    likelihoods = {Job(50, 0, True): Likelihood((2.0,) * 10 + (9.0,) * 40), Job(50, 0, False): Likelihood((1.0,) * 50)}
    short, long = quality_cells([*cut, *whole], likelihoods, seed=0)
    assert (short["length"], long["length"]) == (10, 50)
    assert short["perplexity"]["marked"] == pytest.approx(math.exp(2))
    assert long["perplexity"]["marked"] == pytest.approx(math.exp((20 + 360) / 50))


def test_similarity_is_the_cosine_to_the_human_text() -> None:
    human = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    cell = similarity_cell([3, 8], human, human.roll(1, 0), human, seed=0)
    assert (cell["n"], cell["marked"], cell["unmarked"], cell["difference"]) == (2, 0.0, 1.0, -1.0)
