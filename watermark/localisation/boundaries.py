"""The two ends of a marked span, by the likelihood ratio of its tokens.

With x_t = s·e_t and v_t = |e_t|², given the evidence: a token without the mark has x_t of mean 0 and variance v_t (exactly,
for coin-flip signs), one with it about N(λ·v_t, v_t), because reliable evidence is both larger and more often right. Its log-
likelihood ratio is λ·x_t − λ²·v_t / 2 with λ = Σx / Σv over the span (maximum likelihood). The change point of highest
likelihood (Hinkley, Biometrika 57:1, 1970) is where the sum of these gains is highest. Tokens without evidence gain 0: they are
crossed, but never added at an end.
"""

from __future__ import annotations

import math

import numpy as np

from watermark.floats import single

PASSES = 2
"""Estimates of λ: over the window, then over the span that it led to."""
FIRST_STRIDE = 64
"""Tokens looked at beyond the window to begin with; doubled while the span goes on."""


def refine(per_token: np.ndarray, signs: np.ndarray, window: tuple[int, int], free: tuple[int, int]) -> tuple[int, int]:
    """[start, end) in tokens of the marked span that intersects `window`, inside `free`, which holds the window.

    The span is a run of tokens of highest total gain that nowhere falls by more than `drop` below its highest gain so far
    (Altschul et al., "Gapped BLAST", Nucleic Acids Res. 25:17, 1997: the X-drop rule). A deeper fall separates two spans. The
    cost is proportional to window and span, not to the text.
    """
    # Two more change points, each anywhere in the window, cost 2·ln(size) in description length (Rissanen 1978; Yao 1988).
    drop = 2.0 * math.log(window[1] - window[0])
    start, end = window
    for _ in range(PASSES):
        x, v = _statistics(per_token[start:end], signs)
        if x.sum() <= 0.0 or v.sum() <= 0.0:
            return start, end
        strength = float(x.sum() / v.sum())
        low, high = _core(_gains(per_token[window[0] : window[1]], signs, strength), drop)
        if low == high:
            break  # the mark is mostly outside the window, and too strong for what is inside
        start = window[0] + low - _reach(per_token[free[0] : window[0] + low][::-1], signs, strength, drop)
        end = window[0] + high + _reach(per_token[window[0] + high : free[1]], signs, strength, drop)
    return start, end


def _statistics(tokens: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    evidence = single(tokens)
    return evidence @ signs.astype(np.float32), np.einsum("tn,tn->t", evidence, evidence)


def _gains(tokens: np.ndarray, signs: np.ndarray, strength: float) -> np.ndarray:
    x, v = _statistics(tokens, signs)
    return strength * x.astype(np.float64) - strength**2 / 2.0 * v


def _core(gains: np.ndarray, drop: float) -> tuple[int, int]:
    """[low, high) of highest sum (Kadane; Bentley, Programming Pearls, 1986), cut where the sum falls by more than `drop`."""
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    low, high = 0, len(gains)
    while True:
        rises = sums[low : high + 1] - np.minimum.accumulate(sums[low : high + 1])
        high = low + int(rises.argmax())
        low = high - int(sums[low : high + 1][::-1].argmin())  # from behind: the shortest of equals
        falls = np.maximum.accumulate(sums[low : high + 1]) - sums[low : high + 1]
        if falls.max() <= drop:
            return low, high
        valley = low + int(falls.argmax())
        # The part before the deepest fall or the one after it, whichever holds more; the highest sum inside it is next.
        if sums[low : valley + 1].max() - sums[low] >= sums[high] - sums[valley]:
            high = valley
        else:
            low = valley


def _reach(tokens: np.ndarray, signs: np.ndarray, strength: float, drop: float) -> int:
    """How many of `tokens` (in the direction of travel) belong to the span: up to the highest gain before a fall by `drop`."""
    reach, best, level, position, stride = 0, 0.0, 0.0, 0, FIRST_STRIDE
    while position < len(tokens):
        levels = level + np.cumsum(_gains(tokens[position : position + stride], signs, strength))
        heights = np.maximum(np.maximum.accumulate(levels), best)
        fallen = np.flatnonzero(heights - levels > drop)
        levels = levels[: fallen[0]] if fallen.size else levels
        if levels.size and levels.max() > best:
            reach, best = position + int(levels.argmax()) + 1, float(levels.max())
        if fallen.size:
            break
        level = float(levels[-1])
        position, stride = position + stride, 2 * stride
    return reach
