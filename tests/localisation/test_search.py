from __future__ import annotations

import itertools
import math
import time
import tracemalloc

import numpy as np
import pytest

from tests.localisation.evidence import ListBook, N, host_evidence, overlap_share, plant, random_signs
from watermark.errors import InvalidInput
from watermark.localisation import probing
from watermark.localisation.search import CLOSE, MarkedSpan, SpanSearch, _merged, find_spans
from watermark.localisation.windows import grid_sums, search_windows, window_totals
from watermark.statistics.rademacher import RademacherTail

RATE = 1e-3


def planted(seed: int, tokens: int, *spans: tuple[int, int, int], strength: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Evidence (tokens, N) and 16 codewords, of which number k marks [start, end) for each (start, end, k)."""
    rng = np.random.default_rng(seed)
    evidence, signs = host_evidence(rng, tokens), random_signs(rng, 16)
    for start, end, number in spans:
        plant(evidence, signs[number], start, end, strength)
    return evidence, signs


def what(search: SpanSearch) -> list[tuple[str, int]]:
    return [span.candidate for span in search.spans]  # type: ignore[misc]


def test_p_values_under_the_null_are_uniform_or_larger() -> None:
    rng = np.random.default_rng(0)
    p_values = []
    for trial in range(250):
        evidence = host_evidence(rng, int(rng.integers(64, 260)), 48)
        if trial % 2:  # as a topic does: all tokens pull the same way, which is no codeword
            evidence += 0.05 * rng.standard_normal(48).astype(np.float32)
        p_values.append(find_spans(evidence, ListBook(random_signs(rng, 8, 48)), false_positive_rate=RATE).p_value)
    for level in (0.01, 0.05, 0.2):
        share = np.mean(np.array(p_values) < level)
        assert share <= level + 3.0 * math.sqrt(level * (1.0 - level) / len(p_values))
    assert np.mean(np.array(p_values) < 0.1) > 0.01  # and the bound is not an empty one


@pytest.mark.parametrize("tokens,length", [(400, 100), (800, 200), (5000, 200)])
def test_planted_spans_are_found_where_they_are(tokens: int, length: int) -> None:
    shares = []
    for seed in range(12):
        start = int(np.random.default_rng(seed).integers(tokens - length + 1))
        evidence, signs = planted(seed, tokens, (start, start + length, 5))
        search = find_spans(evidence, ListBook(signs), false_positive_rate=RATE)
        assert search.best == ("codeword", 5) and search.p_value < RATE and set(what(search)) == {("codeword", 5)}
        assert search.windows == len(search_windows(tokens))
        shares.append(max(overlap_share((span.start, span.end), (start, start + length)) for span in search.spans))
    assert np.median(shares) >= 0.85


@pytest.mark.parametrize("truth", [(0, 150), (453, 603), (0, 603)], ids=["beginning", "end", "everything"])
def test_spans_at_the_ends(truth: tuple[int, int]) -> None:
    evidence, signs = planted(2, 603, (*truth, 3))
    (span,) = find_spans(evidence, ListBook(signs), false_positive_rate=RATE).spans
    assert overlap_share((span.start, span.end), truth) > 0.85
    assert span.candidate == ("codeword", 3) and (span.signs == signs[3]).all()


def test_two_issuers_next_to_each_other_and_one_of_them_again() -> None:
    evidence, signs = planted(3, 2000, (200, 400, 1), (400, 600, 2), (1500, 1700, 1))
    spans = find_spans(evidence, ListBook(signs), false_positive_rate=RATE).spans
    assert [span.candidate for span in spans] == [("codeword", 1), ("codeword", 2), ("codeword", 1)]
    for span, truth in zip(spans, [(200, 400), (400, 600), (1500, 1700)], strict=True):
        assert overlap_share((span.start, span.end), truth) > 0.8 and span.p_value < RATE
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))


def test_the_p_value_is_that_of_a_window_times_everything_searched() -> None:
    evidence, signs = planted(4, 300, (100, 200, 0), strength=0.4)
    search = find_spans(evidence, ListBook(signs), false_positive_rate=RATE)
    windows = search_windows(300)
    totals = window_totals(grid_sums(evidence), windows)
    smallest = min(float(RademacherTail(total).pvalue(signs @ total).min()) for total in totals)
    assert search.p_value == pytest.approx(smallest * len(windows) * 16, rel=1e-9)


def test_not_significant_is_reported_without_spans() -> None:
    evidence, signs = planted(5, 300)
    search = find_spans(evidence, ListBook(signs), false_positive_rate=RATE)
    assert search.spans == () and RATE <= search.p_value <= 1.0 and search.best is not None


@pytest.mark.parametrize("tokens", [0, 1, 63])
def test_texts_too_short_for_a_window(tokens: int) -> None:
    book = ListBook(np.ones((2, N), dtype=np.int8))
    assert find_spans(np.ones((tokens, N), dtype=np.float32), book, false_positive_rate=RATE) == SpanSearch(1.0, None, (), 0)


def test_no_evidence_at_all() -> None:
    search = find_spans(np.zeros((200, N), dtype=np.float16), ListBook(np.ones((2, N), dtype=np.int8)), false_positive_rate=RATE)
    assert search.p_value == 1.0 and search.spans == ()


def test_an_adjustment_lowers_the_statistic_and_never_raises_it() -> None:
    evidence, signs = planted(6, 600, (200, 400, 1))
    seen: list[int] = []

    def half(statistics: np.ndarray, totals: np.ndarray, signs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        seen.extend(tokens.tolist())
        np.testing.assert_allclose(statistics, (totals * signs).sum(axis=1))
        return 0.5 * statistics

    book = ListBook(signs)
    plain = find_spans(evidence, book, false_positive_rate=RATE)
    lowered = find_spans(evidence, book, false_positive_rate=RATE, adjust=half)
    assert plain.p_value < lowered.p_value and set(seen) <= set(np.diff(search_windows(600), axis=1).ravel().tolist())
    assert find_spans(evidence, book, false_positive_rate=RATE, adjust=lambda statistics, *_: 9.0 * statistics) == plain
    nothing = find_spans(evidence, book, false_positive_rate=RATE, adjust=lambda statistics, *_: 0.0 * statistics)
    assert nothing.p_value == 1.0 and nothing.spans == ()


def test_a_huge_book_is_probed_within_its_budget_and_paid_for() -> None:
    evidence, signs = planted(7, 1500, (300, 900, 2), (1100, 1300, 2), strength=1.2)
    book = ListBook(signs, candidates=2**68, work=2**21)
    search = find_spans(evidence, book, false_positive_rate=RATE)
    assert book.rows == probing.BUDGET // 2**21 < search.windows
    assert what(search)[0] == ("codeword", 2) and overlap_share((search.spans[0].start, search.spans[0].end), (300, 900)) > 0.9
    assert overlap_share((search.spans[1].start, search.spans[1].end), (1100, 1300)) > 0.9
    small = find_spans(evidence, ListBook(signs), false_positive_rate=RATE)
    assert search.p_value == pytest.approx(small.p_value * 2**68 / 16, rel=1e-6)
    beyond = ListBook(signs, candidates=2**68, work=2**40)
    assert find_spans(evidence, beyond, false_positive_rate=RATE).p_value <= 1.0 and beyond.rows == probing.FEWEST


def test_more_candidates_than_float64_can_count() -> None:
    evidence, signs = planted(8, 400, (100, 300, 2))
    assert find_spans(evidence, ListBook(signs, candidates=2**2000), false_positive_rate=RATE).p_value == 1.0


def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, signs = planted(9, 900, (100, 300, 2), (500, 700, 4))
    whole = find_spans(evidence, ListBook(signs), false_positive_rate=RATE)
    monkeypatch.setattr(probing, "CHUNK", 7)
    monkeypatch.setattr(probing, "CODEWORDS", 3)
    pieces = find_spans(evidence, ListBook(signs), false_positive_rate=RATE)
    assert what(pieces) == what(whole) and pieces.p_value == pytest.approx(whole.p_value)


def test_probes_cover_the_text_and_keep_to_their_number() -> None:
    windows = search_windows(10_000)
    for most in (4, 32, 1000, len(windows) - 1, len(windows)):
        chosen = windows[probing._spread(windows, most)]
        assert len(np.unique(chosen, axis=0)) == len(chosen) == most
    covered = np.zeros(10_000, dtype=bool)
    for start, end in windows[probing._spread(windows, 4)]:
        covered[start:end] = True
    assert covered.mean() > 0.9


def test_time_and_memory_of_a_long_text() -> None:
    evidence, signs = planted(10, 20_000, (7000, 7200, 1), strength=1.0)
    began = time.process_time()
    tracemalloc.start()
    search = find_spans(evidence, ListBook(signs), false_positive_rate=RATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert overlap_share((search.spans[0].start, search.spans[0].end), (7000, 7200)) > 0.85
    assert peak < 20_000 * N * 8 / 8 + 4 * probing.CHUNK * N * 8  # the grid and a few chunks of windows
    assert time.process_time() - began < 20.0  # 0.3 s measured


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, math.nan])
def test_refusals(rate: float) -> None:
    book = ListBook(np.ones((2, N), dtype=np.int8))
    with pytest.raises(InvalidInput):
        find_spans(np.zeros((100, N)), book, false_positive_rate=rate)
    with pytest.raises(InvalidInput):
        find_spans(np.full((100, N), np.nan), book, false_positive_rate=RATE)


def test_neighbours_of_one_candidate_are_one_span() -> None:
    def span(start: int, end: int, candidate: str, p_value: float) -> MarkedSpan:
        return MarkedSpan(start, end, np.ones(2, dtype=np.int8), candidate, p_value)

    found = [
        span(308, 400, "a", 1e-9),
        span(0, 100, "a", 1e-5),
        span(100, 150, "b", 1e-4),
        span(150, 300, "a", 1e-7),
        span(409, 500, "a", 0),
    ]
    wanted = [span(0, 100, "a", 1e-5), span(100, 150, "b", 1e-4), span(150, 400, "a", 1e-9), span(409, 500, "a", 0)]
    assert _merged(found) == tuple(wanted)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_best_window_is_the_one_of_adjusting_all_of_them(strength: float) -> None:
    """Only windows that can still win are adjusted."""

    def lean(statistics: np.ndarray, totals: np.ndarray, signs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return statistics - np.linalg.norm(totals, axis=1) * 1.5 * np.sin(1e4 * totals[:, 0]) ** 2

    tried, won = math.log(16 * len(search_windows(500))), set()
    for seed in range(20):
        evidence, signs = planted(seed, 500, (150, 400, 2), strength=strength)
        search = find_spans(evidence, ListBook(signs), false_positive_rate=RATE, adjust=lean)
        totals = window_totals(grid_sums(evidence), search_windows(500))
        raw = totals @ signs.T.astype(np.float64)
        which = raw.argmax(axis=1)
        adjusted = lean(raw.max(axis=1), totals, signs[which], np.zeros(len(totals)))
        promise = np.square(np.maximum(adjusted, 0.0) / np.linalg.norm(totals, axis=1)) / 2.0
        if promise.max() <= tried:
            assert search.p_value == 1.0
            continue
        near = np.flatnonzero(promise > promise.max() - CLOSE)
        p_values = [float(RademacherTail(totals[row]).pvalue(adjusted[row])) for row in near]
        smallest = min(1.0, min(p_values) * math.exp(tried))
        assert search.p_value == pytest.approx(smallest, rel=0.5), "an estimate chooses among the close ones"
        won.add(int(near[int(np.argmin(p_values))]) == int(raw.max(axis=1).argmax()))
    assert strength == 0.0 or False in won, "the adjustment must change the winner, or the test shows nothing"
