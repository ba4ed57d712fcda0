"""The two ends of a marked span, by the likelihood ratio of its tokens.

With x_t = s·e_t and v_t = |e_t|², given the evidence: a token without the mark has x_t of mean 0 and variance v_t (exactly,
for coin-flip signs), one with it about N(λ·v_t, v_t), because reliable evidence is both larger and more often right. Its log-
likelihood ratio is λ·x_t − λ²·v_t / 2 with λ = Σx / Σv over the span (maximum likelihood). The change point of highest
likelihood (Hinkley, Biometrika 57:1, 1970) is where the sum of these gains is highest. Tokens without evidence gain 0: they are
crossed, but never added at an end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

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
    tokens = _Tokens(per_token, signs, window)
    start, end = window
    for _ in range(PASSES):
        strength = tokens.strength(start, end)
        if strength <= 0.0:
            return start, end
        low, high = _core(tokens.gains(window[0], strength, 0, window[1] - window[0]), drop)
        if low == high:
            break  # the mark is mostly outside the window, and too strong for what is inside
        first, last = window[0] + low, window[0] + high
        start = first - _reach(partial(tokens.before, first, strength), first - free[0], drop)
        end = last + _reach(partial(tokens.gains, last, strength), free[1] - last, drop)
    return start, end


class _Tokens:
    """x and v of the tokens around a window, each computed when it is first asked for."""

    def __init__(self, per_token: np.ndarray, signs: np.ndarray, window: tuple[int, int]) -> None:
        self._per_token, self._signs = per_token, signs.astype(np.float32)
        self._first = window[0]
        self._x, self._v = self._computed(*window)

    def strength(self, start: int, end: int) -> float:
        """λ of the tokens [start, end), or 0 where they hold no evidence."""
        x, v = (float(values.sum()) for values in self._of(start, end))
        return x / v if v > 0.0 else 0.0

    def gains(self, place: int, strength: float, near: int, far: int) -> np.ndarray:
        """Of the tokens `near` to `far` after `place`."""
        x, v = self._of(place + near, place + far)
        return strength * x.astype(np.float64) - strength**2 / 2.0 * v

    def before(self, place: int, strength: float, near: int, far: int) -> np.ndarray:
        """Of the tokens `near` to `far` before `place`, the nearest first."""
        return self.gains(place, strength, -far, -near)[::-1]

    def _of(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        last = self._first + len(self._x)
        if start < self._first:
            self._join(self._computed(start, self._first), (self._x, self._v))
            self._first = start
        if end > last:
            self._join((self._x, self._v), self._computed(last, end))
        return self._x[start - self._first : end - self._first], self._v[start - self._first : end - self._first]

    def _computed(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        evidence = single(self._per_token[start:end])
        return evidence @ self._signs, np.einsum("tn,tn->t", evidence, evidence)

    def _join(self, left: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray]) -> None:
        self._x, self._v = (np.concatenate(both) for both in zip(left, right, strict=True))


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


def _reach(gains: Callable[[int, int], np.ndarray], room: int, drop: float) -> int:
    """How many of the next `room` tokens belong to the span: up to the highest gain before a fall by `drop`. `gains(near, far)` are those
    of the tokens at these distances, in the direction of travel."""
    reach, best, level, position, stride = 0, 0.0, 0.0, 0, FIRST_STRIDE
    while position < room:
        levels = level + np.cumsum(gains(position, min(position + stride, room)))
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
