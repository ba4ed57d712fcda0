"""What a verifier that anybody may ask gives away: attacks on its answers, simulated on the evidence of real unmarked texts.

A query is a text of `SEGMENTS` segments; evidence is additive, so its evidence is the sum of theirs (what crosses a seam is neglected).
The verifier's answer follows from z of the best codeword; its tail is taken as normal, which changes no conclusion here.

`climb`    knows neither checkpoint nor key: replaces one segment after the other and keeps what lowers the p-value.
`recover`  knows the checkpoint: each answer is a linear measurement of the signs of the codeword that the text is nearest to.
           With a bare verdict each answer is one bit of it, from a marked text that is diluted until the verdict is about to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import norm

from benchmarks.attacker import Floats, Rng

SEGMENTS = 8
RATE = 1e-3
FIRM = 1e-8
"""p-value down to which `recover` climbs first, so that small changes leave the text nearest to the same codeword."""
NOISE = {"exact": 1e-2, "two digits": 1e-2, "power of ten": 0.1, "verdict": 1.0}
"""Variance of what an answer says of z beside what it is."""
Answers = Literal["exact", "two digits", "power of ten", "verdict"]
ANSWERS: tuple[Answers, ...] = ("exact", "two digits", "power of ten", "verdict")


@dataclass
class Oracle:
    """A public verifier of one issuer with codewords `signs` (K, n), and how many questions it was asked."""

    signs: Floats
    answers: Answers
    asked: int = field(default=0, init=False)

    def p_value(self, evidence: Floats) -> float:
        """The p-value as it is shown. A bare verdict is a p-value of 0 or 1."""
        self.asked += 1
        p = corrected(self.best(evidence), len(self.signs))
        match self.answers:
            case "exact":
                return p
            case "two digits":
                return float(f"{p:.1e}")
            case "power of ten":
                return float(10.0 ** np.ceil(np.log10(max(p, 1e-300))))
            case "verdict":
                return 0.0 if p < RATE else 1.0

    def best(self, evidence: Floats) -> float:
        """z of the best codeword: what the issuer sees and an attacker does not."""
        return float((self.signs @ evidence).max() / max(np.linalg.norm(evidence), 1e-12))


def corrected(z: float, candidates: int) -> float:
    return float(-np.expm1(candidates * norm.logsf(-z)))  # 1 - (1 - sf(z))^K, and 1 - sf(z) = sf(-z)


def statistic(p: float, candidates: int) -> float:
    """The z that an attacker reads off a p-value: the inverse of `corrected`."""
    p = min(max(p, 1e-300), 1 - 1e-12)
    return float(norm.isf(-np.expm1(np.log1p(-p) / candidates)))


@dataclass(frozen=True)
class Climb:
    asked: int
    segments: Floats
    """(SEGMENTS, n) of the text in hand."""
    marked: bool


def climb(oracle: Oracle, segment: Callable[[], Floats], rng: Rng, limit: int, target: float = RATE) -> Climb:
    """Change one segment at a time until the p-value shown is below `target`, or for `limit` questions. `segment()` is a fresh one."""
    text = np.stack([segment() for _ in range(SEGMENTS)])
    shown = oracle.p_value(text.sum(axis=0))
    while shown >= target and oracle.asked < limit:
        changed = text.copy()
        # Where every answer is the same there is nothing to climb: then a whole new text is as good, and more varied.
        places = range(SEGMENTS) if oracle.answers == "verdict" else [int(rng.integers(SEGMENTS))]
        for place in places:
            changed[place] = segment()
        p = oracle.p_value(changed.sum(axis=0))
        if p <= shown:
            text, shown = changed, p
    return Climb(oracle.asked, text, shown < target)


def recover(
    oracle: Oracle,
    segment: Callable[[], Floats],
    marked: Floats,
    forges: Callable[[Floats], float],
    rng: Rng,
    *,
    share: float,
    limit: int,
) -> int | None:
    """Questions until the estimated signs forge a `share` of texts, as `forges(signs)` tells; None when `limit` is not enough.

    `marked` (n,) is the evidence of one text of the issuer's, used with bare verdicts only; otherwise the attacker begins with `climb`.
    """
    bits = oracle.answers == "verdict"
    base = _diluted(oracle, segment, marked) if bits else climb(oracle, segment, rng, limit, FIRM).segments
    rows, answers = [], []
    check = oracle.asked + 8
    while oracle.asked < limit:
        changed = base.copy()
        for place in rng.permutation(len(base))[: max(1, len(base) // 4)]:
            changed[place] = segment()
        total = changed.sum(axis=0)
        length = np.linalg.norm(total)
        p = oracle.p_value(total)
        rows.append(total / length)
        answers.append((1.0 if p < RATE else -1.0) if bits else statistic(p, len(oracle.signs)))
        if oracle.asked >= check:
            if forges(_regress(np.array(rows), np.array(answers), NOISE[oracle.answers])) >= share:
                return oracle.asked
            check = int(oracle.asked * 1.1) + 1
    return None


def _diluted(oracle: Oracle, segment: Callable[[], Floats], marked: Floats) -> Floats:
    """A marked text with unmarked segments added until it is no longer called marked: the edge, where every answer tells most."""
    text = [marked]
    while oracle.p_value(np.sum(text, axis=0)) < RATE:
        text.extend(segment() for _ in range(2))
    return np.stack(text)


def _regress(rows: Floats, answers: Floats, noise: float) -> Floats:
    """Ridge estimate of the signs (n,) from measurements rows·s = answers, but for what all of them share."""
    rows, answers = rows - rows.mean(axis=0), answers - answers.mean()
    if len(rows) > rows.shape[1]:
        found = np.linalg.solve(rows.T @ rows + noise * np.eye(rows.shape[1]), rows.T @ answers)
    else:
        found = rows.T @ np.linalg.solve(rows @ rows.T + noise * np.eye(len(rows)), answers)
    return np.asarray(found, dtype=np.float64)
