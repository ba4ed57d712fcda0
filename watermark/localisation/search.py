"""The search for marked spans: windows and codewords screened by z, the best of them tested exactly, their ends placed."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace

import numpy as np

from watermark.errors import InvalidInput
from watermark.localisation.boundaries import refine
from watermark.localisation.probing import Decoder, Known, exponents, norms, probe, score
from watermark.localisation.windows import GRID, grid_sums, search_windows, window_totals
from watermark.statistics.rademacher import RademacherTail
from watermark.statistics.saddlepoint import log_tails

MOST_SPANS = 128
"""Spans looked for in one text; each costs an exact tail of 2 ms."""
SHORTLIST = 64
"""Most promising windows, among which the best is looked for."""
COMPARED = 4
"""The first of them, whose adjusted statistics say how promising a window must be to be adjusted too; and of those that are then the most
promising, the number whose p-values are estimated: promise and p agree on the order only nearly."""
CLOSE = 2.0
"""How far below the best promise a window can still have the smallest p-value, in natural logarithms."""

Adjust = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(statistics (w,), totals (w, n), signs (w, n), tokens (w,)) → the statistics to use in their place, never above them."""


@dataclass(frozen=True)
class MarkedSpan:
    """Tokens [start, end) that carry a codeword."""

    start: int
    end: int
    signs: np.ndarray = field(repr=False, compare=False)
    """int8 (n,) of ±1; `candidate` says as much when spans are compared."""
    candidate: Hashable
    """Which codeword of the book it is."""
    p_value: float
    """Corrected for all windows and codewords: that of the searched window that led to the span, which overlaps it."""


@dataclass(frozen=True)
class SpanSearch:
    """What the search of one text found."""

    p_value: float
    """The smallest corrected p-value of any window, significant or not; 1 where the text is too short for a window."""
    best: Hashable | None
    """The candidate that it belongs to; None without a window."""
    spans: tuple[MarkedSpan, ...]
    """Those below the false-positive rate, by their start; they do not overlap."""
    windows: int
    """Windows searched."""


def find_spans(
    per_token: np.ndarray, book: Decoder, *, false_positive_rate: float, adjust: Adjust | None = None, known: Known = ()
) -> SpanSearch:
    """Search the evidence of a text, `per_token` (T, n), for spans that carry codewords of `book`.

    The chance that a text written without any of the keys gets a span is at most `false_positive_rate`, by the union bound over
    all windows x all codewords; `adjust` may lower a statistic before it is tested, which keeps the bound, and so may the
    choice of `known` codewords, which are tried on all windows: the best of the whole text, say. The best pair of window and codeword
    becomes a span, windows that overlap it are set aside, and so on until none is significant.
    Raises InvalidInput: evidence that is not a finite (T, n), or a rate outside (0, 1).
    """
    if not 0.0 < false_positive_rate < 1.0:
        raise InvalidInput(f"The false-positive rate must be above 0 and below 1; got {false_positive_rate!r}.")
    windows, sums = search_windows(len(per_token)), grid_sums(per_token)
    if not len(windows):
        return SpanSearch(1.0, None, (), 0)
    candidates, codewords, tried = probe(sums, windows, book, known)
    promise, which = score(sums, windows, codewords, tried)
    paid = math.log(len(windows))  # in logs: a book may hold 2^68
    promise, tried = promise - paid, tried + paid
    p_value, best = 1.0, candidates[which[int(promise.argmax())]]
    spans: list[MarkedSpan] = []
    while len(spans) < MOST_SPANS and np.isfinite(promise).any():
        row, p = _best_window(sums, windows, promise, which, codewords, tried, adjust)
        if p < p_value:
            p_value, best = p, candidates[which[row]]
        if p >= false_positive_rate:
            break
        signs = codewords[which[row]]
        window = int(windows[row, 0]), int(windows[row, 1])
        free = (
            max((s.end for s in spans if s.end <= window[0]), default=0),
            min((s.start for s in spans if s.start >= window[1]), default=len(per_token)),
        )
        start, end = refine(per_token, signs, window, free)
        spans.append(MarkedSpan(start, end, signs, candidates[which[row]], p))
        promise[(windows[:, 0] < end) & (windows[:, 1] > start)] = -np.inf
    return SpanSearch(p_value, best, _merged(spans), len(windows))


def _best_window(
    sums: np.ndarray,
    windows: np.ndarray,
    promise: np.ndarray,
    which: np.ndarray,
    codewords: np.ndarray,
    tried: np.ndarray,
    adjust: Adjust | None,
) -> tuple[int, float]:
    """The window with the smallest corrected p-value among the most promising, and that p-value."""
    rows = np.argsort(-promise, kind="stable")[:SHORTLIST]
    rows = rows[np.isfinite(promise[rows])]
    if promise[rows[0]] <= 0.0:  # Hoeffding's bound, corrected, says 1 already: the usual case of a text without a mark
        return int(rows[0]), 1.0
    first = _adjusted(sums, windows[rows[:COMPARED]], codewords[which[rows[:COMPARED]]], adjust)
    highest = exponents(first[1] / norms(first[0]), tried[which[rows[:COMPARED]]]).max()
    rows = rows[promise[rows] > highest - CLOSE]  # an adjustment only lowers: the others cannot come close
    totals, statistics = _adjusted(sums, windows[rows], codewords[which[rows]], adjust)
    promises = exponents(statistics / norms(totals), tried[which[rows]])
    order = np.argsort(-promises, kind="stable")[:COMPARED]
    if promises[order[0]] <= 0.0:
        return int(rows[order[0]]), 1.0
    order = order[promises[order] > promises[order[0]] - CLOSE]
    if len(order) > 1:  # whichever is tested has been paid for: the estimate costs no validity
        order = order[np.argsort(log_tails(totals[order], statistics[order]) + tried[which[rows[order]]], kind="stable")]
    best = order[0]
    corrected = math.log(float(RademacherTail(totals[best]).pvalue(statistics[best]))) + tried[which[rows[best]]]
    return int(rows[best]), math.exp(min(0.0, corrected))


def _adjusted(sums: np.ndarray, windows: np.ndarray, signs: np.ndarray, adjust: Adjust | None) -> tuple[np.ndarray, np.ndarray]:
    """Evidence of `windows` (w, 2), and their statistics for codewords `signs` (w, n): (w, n), (w,)."""
    totals = window_totals(sums, windows)
    statistics = np.einsum("wn,wn->w", totals, signs)
    if adjust is not None:
        statistics = np.minimum(statistics, adjust(statistics, totals, signs, windows[:, 1] - windows[:, 0]))
    return totals, statistics


def _merged(spans: list[MarkedSpan]) -> tuple[MarkedSpan, ...]:
    """By start; neighbours of one candidate at most GRID tokens apart are one span, with the smaller of their p-values."""
    merged: list[MarkedSpan] = []
    for span in sorted(spans, key=lambda s: s.start):
        last = merged[-1] if merged else None
        if last is not None and last.candidate == span.candidate and span.start - last.end <= GRID:
            merged[-1] = replace(last, end=span.end, p_value=min(last.p_value, span.p_value))
        else:
            merged.append(span)
    return tuple(merged)
