from __future__ import annotations

import numpy as np
import pytest

from tests.localisation.evidence import N, host_evidence, overlap_share, plant, random_signs
from watermark.localisation.boundaries import refine


def marked(seed: int, tokens: int, *spans: tuple[int, int], strength: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    evidence, signs = host_evidence(rng, tokens), random_signs(rng, 1)[0]
    for start, end in spans:
        plant(evidence, signs, start, end, strength)
    return evidence, signs


@pytest.mark.parametrize("window", [(288, 416), (320, 352), (240, 480), (384, 448)], ids=["near", "inside", "around", "tail"])
def test_the_window_need_not_fit(window: tuple[int, int]) -> None:
    evidence, signs = marked(1, 900, (301, 417))
    assert overlap_share(refine(evidence, signs, window, (0, 900)), (301, 417)) > 0.85


def test_a_window_of_32_tokens_grows_over_thousands() -> None:
    evidence, signs = marked(2, 6000, (500, 5500))
    assert overlap_share(refine(evidence, signs, (2000, 2032), (0, 6000)), (500, 5500)) > 0.99


@pytest.mark.parametrize("truth", [(0, 120), (380, 500), (0, 500)])
def test_ends_of_the_text(truth: tuple[int, int]) -> None:
    evidence, signs = marked(3, 500, truth)
    assert overlap_share(refine(evidence, signs, (max(truth[0], 8), truth[1] - 8), (0, 500)), truth) > 0.85


def test_half_precision_gives_the_same_span() -> None:
    evidence, signs = marked(4, 600, (200, 350))
    wanted = refine(evidence, signs, (208, 352), (0, 600))
    assert refine(evidence.astype(np.float16), signs, (208, 352), (0, 600)) == wanted


def test_a_span_stays_within_what_is_free() -> None:
    evidence, signs = marked(5, 600, (100, 500))
    start, end = refine(evidence, signs, (256, 352), (230, 400))
    assert 230 <= start <= 240 and 390 <= end <= 400


def test_a_long_unmarked_stretch_separates_a_short_one_does_not() -> None:
    evidence, signs = marked(6, 1000, (200, 350), (490, 640))
    assert overlap_share(refine(evidence, signs, (200, 352), (0, 1000)), (200, 350)) > 0.85
    one = refine(evidence, signs, (192, 640), (0, 1000))  # of a window that holds both, one is kept
    assert max(overlap_share(one, (200, 350)), overlap_share(one, (490, 640))) > 0.85
    evidence[350:490] = 0.0  # without evidence nothing says that the mark ended
    assert overlap_share(refine(evidence, signs, (200, 352), (0, 1000)), (200, 640)) > 0.9


def test_tokens_without_evidence_are_not_added_at_the_ends() -> None:
    evidence = np.zeros((300, N), dtype=np.float32)
    signs = random_signs(np.random.default_rng(7), 1)[0]
    evidence[100:200] = signs / np.sqrt(N)
    assert refine(evidence, signs, (64, 256), (0, 300)) == (100, 200)


def test_ends_are_not_biased_outwards_by_noise() -> None:
    errors = []
    for seed in range(40):
        evidence, signs = marked(100 + seed, 700, (280, 430))
        start, end = refine(evidence, signs, (280, 432), (0, 700))
        errors.append((280 - start, end - 430))  # outwards
    assert np.abs(np.median(errors, axis=0)).max() <= 3 and np.median(np.abs(errors)) <= 6


def test_no_agreement_leaves_the_window_as_it_is() -> None:
    assert refine(np.zeros((200, N), dtype=np.float32), np.ones(N, dtype=np.int8), (64, 128), (0, 200)) == (64, 128)
