from __future__ import annotations

import numpy as np
import pytest

from tests.localisation.evidence import host_evidence
from watermark.errors import InvalidInput
from watermark.localisation import windows as subject
from watermark.localisation.windows import GRID, SHORTEST, grid_sums, search_windows, window_totals


@pytest.mark.parametrize("tokens", [0, 1, 31, 32, 63])
def test_short_texts_have_no_windows(tokens: int) -> None:
    assert search_windows(tokens).shape == (0, 2)


@pytest.mark.parametrize("tokens", [64, 65, 71, 97, 100, 200, 203, 777, 4096, 10_001])
def test_the_family(tokens: int) -> None:
    windows = search_windows(tokens)
    starts, ends = windows.T
    assert windows.dtype == np.int64 and len(np.unique(windows, axis=0)) == len(windows)
    assert starts.min() == 0 and ends.max() == tokens
    assert (starts % GRID == 0).all() and ((ends % GRID == 0) | (ends == tokens)).all()
    sizes = ends - starts
    assert sizes.min() >= SHORTEST and sizes.max() < tokens  # the whole text is another test
    assert len(windows) <= 11 / 24 * tokens


def test_sizes_are_two_to_the_k_and_three_halves_of_it() -> None:
    windows = search_windows(1000)
    regular = windows[windows[:, 1] < 1000]
    assert np.unique(regular[:, 1] - regular[:, 0]).tolist() == [32, 48, 64, 96, 128, 192, 256, 384, 512, 768]


def test_growth_is_linear() -> None:
    counts = [len(search_windows(tokens)) / tokens for tokens in (1_000, 10_000, 100_000)]
    assert 0.4 < counts[0] < counts[1] < counts[2] < 11 / 24


@pytest.mark.parametrize("tokens", [72, 100, 127, 203, 512, 700])
def test_every_span_of_64_tokens_or_more_has_a_window_much_like_it(tokens: int) -> None:
    first, last = search_windows(tokens).T
    for length in range(64, tokens):
        starts = np.arange(tokens - length + 1)[:, None]
        common = np.minimum(starts + length, last) - np.maximum(starts, first)
        union = np.maximum(starts + length, last) - np.minimum(starts, first)
        assert (common / union).max(axis=1).min() >= 0.7


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_totals_of_windows(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "BLOCK", 64)  # several blocks, the last one short
    evidence = host_evidence(np.random.default_rng(0), 203, 16).astype(dtype)
    windows, sums = search_windows(203), grid_sums(evidence)
    assert sums.shape == (26 + 1, 16) and sums.dtype == np.float64
    wanted = [evidence[start:end].sum(axis=0, dtype=np.float64) for start, end in windows]
    np.testing.assert_allclose(window_totals(sums, windows), wanted, atol=1e-12)


def test_no_digits_are_lost_over_a_long_text() -> None:
    evidence = np.full((100_000, 2), 60_000.0, dtype=np.float32)
    evidence[-8:] = 1e-3
    np.testing.assert_allclose(np.diff(grid_sums(evidence), axis=0)[-1], 8e-3, rtol=1e-3)


@pytest.mark.parametrize("bad", [np.zeros(5), np.full((70, 2), np.nan), np.full((70, 2), np.inf, dtype=np.float16)])
def test_refusals(bad: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        grid_sums(bad)


def test_empty_text() -> None:
    assert grid_sums(np.zeros((0, 4), dtype=np.float32)).shape == (1, 4)
