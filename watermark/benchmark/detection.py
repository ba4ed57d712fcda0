"""Detection at equal measured false-positive rates: a threshold for each method, rate and length, set on human text.

The threshold is an order statistic of the human scores: at most the share that the rate allows is above it. How far another sample of human
texts would move it follows from binomial ranks (David and Nagaraja, *Order Statistics*, 3rd ed. 2003, ch. 7.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom

from watermark.benchmark.methods import Detection
from watermark.benchmark.scoring import Cell, Scores
from watermark.statistics.intervals import clopper_pearson


@dataclass(frozen=True)
class Threshold:
    """A text is called marked when its score is above `value`."""

    value: float
    lowest: float
    """95 % interval of what an endless supply of human text would give."""
    highest: float
    above: int
    """Human texts above `value`: fewer than the rate allows where many have the same score."""
    n: int


def threshold(human: Sequence[float], rate: float) -> Threshold:
    """The lowest value that at most `rate` of the human scores are above. With fewer than 1 / rate of them it is their largest."""
    ranked = np.sort(np.asarray(human, dtype=np.float64))[::-1]
    n = len(ranked)
    value = float(ranked[min(int(rate * n), n - 1)])
    low_rank, high_rank = (int(rank) for rank in binom.ppf([0.025, 0.975], n, rate))
    return Threshold(
        value,
        lowest=float(ranked[min(high_rank, n - 1)]),
        highest=float(ranked[max(low_rank - 1, 0)]),
        above=int((ranked > value).sum()),
        n=n,
    )


def detection_cells(scores: Scores, rates: Sequence[float]) -> list[dict[str, Any]]:
    """Detection of marked text at the thresholds that human text of the same length gives; likewise of unmarked model text.

    `interval` is Clopper-Pearson's over the texts; `threshold_range` is what the share would be at both ends of the threshold's interval.
    `missed` are the numbers of the texts that were not detected: methods continue the same prompts, so they can be compared pair by pair.
    """
    found = []
    for cell, of_cell in scores.items():
        if cell.condition == "human":
            continue
        human = [one.score for one in scores[Cell("human", "clean", cell.length)]]
        for rate in rates:
            limit = threshold(human, rate)
            shares = [sum(one.score > value for one in of_cell) for value in (limit.value, limit.highest, limit.lowest)]
            found.append(
                {
                    "condition": cell.condition,
                    "attack": cell.attack,
                    "length": cell.length,
                    "rate": rate,
                    "n": len(of_cell),
                    "detected": shares[0],
                    "share": shares[0] / len(of_cell),
                    "interval": clopper_pearson(shares[0], len(of_cell)),
                    "threshold_range": (shares[1] / len(of_cell), shares[2] / len(of_cell)),
                    "own_share": _own_share(of_cell, rate),
                    "missed": [number for number, one in enumerate(of_cell) if one.score <= limit.value],
                }
            )
    return found


def threshold_cells(scores: Scores, rates: Sequence[float]) -> list[dict[str, Any]]:
    """The thresholds themselves, and how often a method's own p-value calls human text marked at the nominal rate."""
    found = []
    for cell, of_cell in scores.items():
        if cell.condition != "human":
            continue
        for rate in rates:
            limit = threshold([one.score for one in of_cell], rate)
            own = [one.p_value < rate for one in of_cell if one.p_value is not None]
            found.append(
                {
                    "length": cell.length,
                    "rate": rate,
                    "n": limit.n,
                    "threshold": limit.value,
                    "range": (limit.lowest, limit.highest),
                    "above": limit.above,
                    "measured_rate": limit.above / limit.n,
                    "own_rate": sum(own) / len(own) if own else None,
                    "own_interval": clopper_pearson(sum(own), len(own)) if own else None,
                }
            )
    return found


def _own_share(of_cell: Sequence[Detection], rate: float) -> float | None:
    """Share below the rate by the method's own p-value; None for a method without one."""
    own = [one.p_value < rate for one in of_cell if one.p_value is not None]
    return sum(own) / len(of_cell) if own else None
