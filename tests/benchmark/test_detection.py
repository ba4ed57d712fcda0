"""Thresholds at measured false-positive rates, and where a peer is ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from watermark.benchmark.comparison import leads
from watermark.benchmark.detection import detection_cells, threshold, threshold_cells
from watermark.benchmark.methods import Detection
from watermark.benchmark.scoring import Cell


def test_a_threshold_lets_the_rate_through_and_no_more() -> None:
    scores = np.random.default_rng(0).normal(size=5000)
    limit = threshold(scores.tolist(), 0.01)
    assert limit.above == 50 == (scores > limit.value).sum()
    assert limit.lowest < limit.value < limit.highest


def test_many_equal_scores_make_it_stricter_never_looser() -> None:
    limit = threshold([0.0] * 900 + [1.0] * 100, 0.05)
    assert limit.value == 1.0 and limit.above == 0


def test_with_few_texts_it_is_their_largest() -> None:
    limit = threshold(list(range(100)), 0.001)
    assert limit.value == 99 and limit.above == 0


def test_its_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, rate = np.random.default_rng(1), 0.01
    truth = np.quantile(rng.normal(size=2_000_000), 1 - rate)
    limits = [threshold(rng.normal(size=2000).tolist(), rate) for _ in range(400)]
    covered = np.mean([limit.lowest <= truth <= limit.highest for limit in limits])
    assert 0.92 < covered < 0.995


def cells(shift: float, p_values: bool = True) -> dict[Cell, list[Detection]]:
    rng = np.random.default_rng(2)

    def of(mean: float, n: int) -> list[Detection]:
        return [Detection(float(z), 1 / (1 + np.exp(3 * z)) if p_values else None) for z in rng.normal(mean, 1, n)]

    return {Cell("human", "clean", 50): of(0, 1000), Cell("marked", "clean", 50): of(shift, 100), Cell("unmarked", "clean", 50): of(0, 100)}


def test_shares_are_taken_at_the_human_threshold() -> None:
    found = {(c["condition"], c["rate"]): c for c in detection_cells(cells(5.0), (0.01, 0.001))}
    assert found["marked", 0.01]["share"] > 0.9 > 0.1 > found["unmarked", 0.01]["share"]
    assert found["marked", 0.01]["share"] >= found["marked", 0.001]["share"]
    assert found["marked", 0.001]["threshold_range"][0] < found["marked", 0.001]["threshold_range"][1]
    assert found["marked", 0.01]["own_share"] is not None
    assert detection_cells(cells(5.0, p_values=False), (0.01,))[0]["own_share"] is None


def test_a_p_value_of_its_own_is_held_against_human_text() -> None:
    (one,) = threshold_cells(cells(0.0), (0.01,))
    scores = [d.p_value for d in cells(0.0)[Cell("human", "clean", 50)]]
    assert one["own_rate"] == np.mean([p is not None and p < 0.01 for p in scores]) and one["own_interval"][0] <= one["own_rate"]
    assert threshold_cells(cells(0.0, p_values=False), (0.01,))[0]["own_rate"] is None


def report(ours: dict[str, int], peer: dict[str, int]) -> dict[str, Any]:
    """Each detects the first so many of a hundred texts."""

    def method(detected: dict[str, int], own: bool) -> dict[str, Any]:
        marked = [
            {"condition": "marked", "attack": attack, "length": 50, "rate": 0.001, "share": n / 100, "missed": list(range(n, 100))}
            for attack, n in detected.items()
        ]
        return {"title": "T", "ours": own, "detection": marked, "quality": [{"length": 50, "perplexity": {"ratio": 0.5}}]}

    return {"default": "a", "methods": {"a": method(ours, True), "other-of-ours": method(peer, True), "p": method(peer, False)}}


def test_every_cell_with_a_peer_ahead_is_named() -> None:
    found = leads(report({"clean": 90, "typos-10": 50, "delete-10": 70}, {"clean": 95, "typos-10": 80, "delete-10": 70}), 0.001)
    assert [(lead.attack, lead.peer, lead.perplexity) for lead in found] == [("typos-10", "p", 0.5), ("clean", "p", 0.5)]


def test_a_lead_is_tested_on_the_texts_that_only_one_of_them_detects() -> None:
    both = report({"clean": 90}, {"clean": 95})
    (cell,) = both["methods"]["p"]["detection"]
    cell["missed"] = [0, 1, *range(97, 100)]  # of 100, it alone detects 90 to 96, and ours alone two
    (lead,) = leads(both, 0.001)
    assert (lead.only_peer, lead.only_ours) == (7, 2)
    assert lead.p_value == pytest.approx(2 * (1 + 9 + 36) / 2**9)


@pytest.mark.parametrize("ours", [{"clean": 90}, {"clean": 91}])
def test_no_lead_is_invented(ours: dict[str, int]) -> None:
    assert leads(report(ours, {"clean": 90}), 0.001) == []
