"""The arithmetic of an attacker, on evidence that is made up: a codeword of 256 signs, and z of 8 per text."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import attacker, oracle
from benchmarks.attacker import Floats, Prior

N, Z = 256, 8.0


def marked(signs: Floats, rng: np.random.Generator) -> Floats:
    """Evidence (m, N) of texts that carry `signs` (m, N) as strongly as real ones do."""
    return Z * signs / np.sqrt(N) + rng.normal(size=signs.shape)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def prior(rng: np.random.Generator) -> Prior:
    signs = rng.choice([-1.0, 1.0], size=(64, N))
    return Prior.learn(rng.normal(size=(64, N)), marked(signs, rng), signs, rng)


def test_soft_signs_are_as_sure_as_they_are_right(prior: Prior, rng: np.random.Generator) -> None:
    agreement, confidence = [], []
    for _ in range(200):
        signs = rng.choice([-1.0, 1.0], size=(2, N))[:1].repeat(2, axis=0)
        soft = attacker.soft_signs(attacker.directions(marked(signs, rng), prior.background), prior.strength)
        agreement.append((np.sign(soft) == signs[0]).mean())
        confidence.append((1 + np.abs(soft)).mean() / 2)
    assert np.mean(agreement) == pytest.approx(np.mean(confidence), abs=0.03)


def test_texts_are_grouped_by_codeword(prior: Prior, rng: np.random.Generator) -> None:
    book = rng.choice([-1.0, 1.0], size=(4, N))
    words = np.array([0] * 12 + [1] * 6 + [2] * 3 + [3])
    groups = attacker.group(attacker.directions(marked(book[words], rng), prior.background), prior, len(book))
    assert groups.sizes == [12, 6, 3, 1]
    assert [int((book @ signs).argmax()) for signs in groups.signs] == [0, 1, 2, 3]


def test_one_codeword_needs_no_grouping(prior: Prior, rng: np.random.Generator) -> None:
    assert attacker.group(rng.normal(size=(5, N)), prior, 1).sizes == [5]


def test_resigned_texts_carry_the_new_codeword(rng: np.random.Generator) -> None:
    old, new = rng.choice([-1.0, 1.0], size=(2, 10, N))
    evidence = marked(old, rng)
    assert (attacker.resign(evidence, old, new) * new).sum(axis=1) == pytest.approx((evidence * old).sum(axis=1))


def test_a_forgery_with_the_true_signs_is_as_good_as_a_marked_text(rng: np.random.Generator) -> None:
    truth = rng.choice([-1.0, 1.0], size=N)
    own = attacker.directions(marked(np.tile(truth, (20, 1)), rng)) * truth
    assert attacker.simulated_forgery(truth, truth, own) == pytest.approx(own.sum(axis=1))
    assert attacker.simulated_forgery(-truth, truth, own) == pytest.approx(-own.sum(axis=1))


def test_no_text_is_used_twice_with_one_codeword(rng: np.random.Generator) -> None:
    text, word = attacker.simulated_sharing(40, 4, 10, rng)
    assert len(set(zip(text.tolist(), word.tolist(), strict=True))) == 40
    with pytest.raises(ValueError, match="cannot be simulated"):
        attacker.simulated_sharing(41, 4, 10, rng)


def test_needed_z_rises_with_the_candidates(rng: np.random.Generator) -> None:
    evidence = rng.normal(size=N)
    assert attacker.needed_z(evidence, 1, 1e-3) == pytest.approx(3.09, abs=0.1)
    assert attacker.needed_z(evidence, 16, 1e-3) == pytest.approx(3.84, abs=0.1)


def test_separation_at_both_ends(rng: np.random.Generator) -> None:
    low, high = rng.normal(size=(4, 100)), rng.normal(size=(4, 100)) + 20
    assert attacker.separation(high, low, 0.01, seed=0, resamples=50).found_interval == (1.0, 1.0)
    same = attacker.separation(rng.normal(size=(4, 100)), low, 0.01, seed=0, resamples=50)
    assert same.auc_interval[0] < 0.5 < same.auc_interval[1]
    assert same.found < 0.05


def test_coherence_is_standard_without_a_mark_and_large_with_one(rng: np.random.Generator) -> None:
    unmarked = [attacker.coherence(rng.normal(size=(60, N))) for _ in range(300)]
    assert np.mean(unmarked) == pytest.approx(0, abs=0.2)
    assert np.std(unmarked) == pytest.approx(1, abs=0.15)
    signs = rng.choice([-1.0, 1.0], size=N)
    assert attacker.coherence(rng.normal(size=(60, N)) + 0.1 * signs) > 4
    assert attacker.coherence(np.zeros((3, N))) == 0.0


def test_a_statistic_is_read_off_its_p_value() -> None:
    for z in (0.5, 2.0, 6.0):
        assert oracle.statistic(oracle.corrected(z, 16), 16) == pytest.approx(z, abs=1e-6)


@pytest.mark.parametrize("answers", oracle.ANSWERS)
def test_a_verifier_that_answers_everybody_can_be_climbed(answers: oracle.Answers, rng: np.random.Generator) -> None:
    verifier = oracle.Oracle(rng.choice([-1.0, 1.0], size=(4, N)), answers)
    found = oracle.climb(verifier, lambda: rng.normal(size=N), rng, 20_000)
    assert found.marked
    assert oracle.corrected(verifier.best(found.segments.sum(axis=0)), 4) < oracle.RATE
    assert found.asked < 500 or answers == "verdict"


@pytest.mark.parametrize("answers", ["exact", "verdict"])
def test_answers_give_the_codeword_away(answers: oracle.Answers, rng: np.random.Generator) -> None:
    book = rng.choice([-1.0, 1.0], size=(4, N))

    def right(signs: Floats) -> float:
        return float(np.abs((np.sign(signs) == book).mean(axis=1)).max())

    asked = oracle.recover(
        oracle.Oracle(book, answers), lambda: rng.normal(size=N), marked(book[:1], rng)[0], right, rng, share=0.8, limit=3000
    )
    assert asked is not None
