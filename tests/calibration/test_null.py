"""The null of a given key, on synthetic evidence with a known lean."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from watermark.calibration.health import key_health
from watermark.calibration.null import FEWEST_TEXTS, Lean, NullSample
from watermark.statistics.rademacher import RademacherTail

N = 256
LENGTHS = (16, 64, 256)


def unmarked(kind: int, texts: int, lean: np.ndarray, seed: int) -> list[tuple[np.ndarray, int, int, int]]:
    """Evidence that grows like noise, with a mean per token that grows faster: what human text looks like."""
    rng = np.random.default_rng(seed)
    return [(np.sqrt(length) * rng.normal(size=N) + length * lean, length, kind, text) for text in range(texts) for length in LENGTHS]


def sample(*groups: list[tuple[np.ndarray, int, int, int]]) -> NullSample:
    rows = [row for group in groups for row in group]
    columns = [np.array([row[i] for row in rows], dtype=np.int32) for i in (1, 2, 3)]
    return NullSample.of([f"kind-{i}" for i in range(len(groups))], np.stack([row[0] for row in rows]), *columns)


def signs(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1, 1], (count, N)).astype(np.int8)


def shift(lean: Lean, words: np.ndarray, tokens: int, direction: np.ndarray) -> np.ndarray:
    """Of codewords on one text whose evidence lies along `direction`: (c,)."""
    return lean.shift(words, direction[None] / np.linalg.norm(direction), tokens)[0]


LEANING = np.random.default_rng(9).normal(size=N) * 0.02
"""At 256 tokens a shift of 0.3 standard deviations for an average codeword."""


def test_directions_survive_storage() -> None:
    rows = np.random.default_rng(0).normal(size=(50, N)) * 37.0
    kept = NullSample.of(["a"], rows, *(np.zeros(50, dtype=np.int32) for _ in range(3)))
    assert kept.directions.dtype == np.int8
    np.testing.assert_allclose(kept.unit(np.arange(50)), rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1.5e-3)


def test_rows_without_evidence_are_left_out() -> None:
    rows = np.zeros((3, N))
    rows[1] = 1.0
    kept = NullSample.of(["a"], rows, *(np.arange(3, dtype=np.int32) for _ in range(3)))
    assert kept.text.tolist() == [1]


@pytest.mark.parametrize("tokens", LENGTHS)
def test_the_shift_is_the_mean_statistic_of_unmarked_text(tokens: int) -> None:
    words, lean = signs(40, 1), Lean(sample(unmarked(0, 2000, LEANING, 2)))
    fresh = np.stack([row[0] for row in unmarked(0, 4000, LEANING, 3) if row[1] == tokens])
    z = (fresh / np.linalg.norm(fresh, axis=1, keepdims=True)) @ words.T
    np.testing.assert_allclose(shift(lean, words, tokens, LEANING), np.maximum(z.mean(axis=0), 0), atol=0.09)


def test_the_shift_is_never_negative_and_grows_with_length() -> None:
    words, lean = signs(200, 1), Lean(sample(unmarked(0, 500, LEANING, 2)))
    at = {tokens: shift(lean, words, tokens, LEANING) for tokens in (64, 256, 1024, 4096)}
    assert (at[64] >= 0).all()
    leaning = np.argsort(words @ LEANING)[-20:]
    assert (at[4096][leaning] > at[256][leaning]).all()
    np.testing.assert_allclose(at[1024][leaning], 2 * at[256][leaning], rtol=1e-5)  # like the square root


def test_the_worst_of_the_plausible_kinds_counts() -> None:
    one, two, words = unmarked(0, 400, 2 * LEANING, 2), unmarked(1, 400, -2 * LEANING, 3), signs(50, 4)
    both = Lean(sample(one, two))
    alone = Lean(sample(one)), Lean(sample(unmarked(0, 400, -2 * LEANING, 3)))
    neither = np.random.default_rng(5).normal(size=N)
    neither -= LEANING * (neither @ LEANING) / (LEANING @ LEANING)  # may be of either kind
    worst = np.maximum(*(shift(lean, words, 256, neither) for lean in alone))
    np.testing.assert_allclose(shift(both, words, 256, neither), worst, atol=0.05)
    for direction, lean in zip((LEANING, -LEANING), alone, strict=True):  # clearly of one
        np.testing.assert_allclose(shift(both, words, 256, direction), shift(lean, words, 256, direction), atol=0.05)


def test_what_chance_gives_a_mean_is_taken_off_it() -> None:
    lean = Lean(sample(unmarked(0, FEWEST_TEXTS, 0 * LEANING, 2)))
    assert shift(lean, signs(100, 1), 64, LEANING).mean() < 0.02  # unshrunk: 0.04


def test_few_texts_of_a_length_are_spoken_for_by_a_shorter_one() -> None:
    rows = [row for row in unmarked(0, 500, LEANING, 2) if row[1] < 256 or row[3] < FEWEST_TEXTS - 1]
    lean = Lean(sample(rows))
    np.testing.assert_allclose(lean._mean[0, 2], 2 * lean._mean[0, 1], rtol=1e-6)
    assert np.isfinite(shift(lean, signs(20, 1), 256, LEANING)).all()


def test_reported_p_values_of_an_unlucky_key_hold() -> None:
    """The exact p-value of a codeword that leans the way all texts do is too small; the lowered statistic's is not."""
    words = signs(400, 5)
    unlucky = words[int(np.argmax(words @ LEANING))]
    lean = Lean(sample(unmarked(0, 1500, LEANING, 2)))
    fresh = [row[0] for row in unmarked(0, 1200, LEANING, 6) if row[1] == 256]
    exact, reported = [], []
    for total in fresh:
        tail, statistic = RademacherTail(total), float(unlucky @ total)
        exact.append(float(tail.pvalue(statistic)))
        norm = float(np.linalg.norm(total))
        reported.append(float(tail.pvalue(statistic - norm * lean.shift(unlucky[None], total[None] / norm, 256)[0, 0])))
    assert np.mean(np.array(exact) < 0.01) > 0.03  # three times too often
    assert np.mean(np.array(reported) < 0.01) < 0.018 and kstest(reported, "uniform").statistic < 0.05
    assert all(r >= e for r, e in zip(reported, exact, strict=True))


def test_health_passes_sound_keys_and_refuses_what_the_shift_cannot_mend() -> None:
    pool = sample(unmarked(0, 800, LEANING, 2))
    passed = [key_health(pool, signs(16, seed)).ok for seed in range(40)]
    assert sum(passed) >= 38  # one in a hundred is refused by chance
    # Evidence that lies along one codeword, now on its one side, now on the other: its mean is 0, its deviation is not 1.
    word = signs(1, 7)
    rng = np.random.default_rng(8)
    odd = [(row[0] + 0.15 * np.sqrt(row[1]) * rng.choice([-1, 1]) * word[0], *row[1:]) for row in unmarked(0, 800, LEANING * 0, 2)]
    found = key_health(sample(odd), word)
    assert not found.ok and found.distance > 2 and found.length in LENGTHS
    assert key_health(sample(odd), signs(16, 9)).ok  # other keys have nothing to do with it
