"""What an attacker does with the evidence of texts that others marked: arithmetic only, no model and no key.

The attacker knows the checkpoint, so the evidence e of any text. By construction e_j is, up to one scale, the log-likelihood ratio
of sign j: under the codeword s a unit vector u = e / |e| has density in proportion to exp(β u·s). For a sign with mean m and variance
v of u_j·s_j that scale is m / v: over all signs the mean of z = u·s, divided by the share of |u|² that is not mark. The attacker
measures both on texts marked with a key of their own. Hence, for texts that share a codeword,

    E[s_j | texts] = tanh(β Σ_texts u_j),                                                            (`soft_signs`)

and texts share a codeword or not by the inner products of their u (`group`): agglomerative clustering with average linkage (Sokal and
Michener 1958; scipy). Spherical k-means and EM for the mixture of sign vectors, started from these groups and knowing how many codewords
there are, found no better signs on real evidence, and were left out.

`resign` turns marked texts into those of another key: evidence times old signs is what a text carries along its own codeword, and
times new signs it is what a text marked with these would carry, up to the text's own variation, because to the embedder all
codewords are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from watermark.statistics.correction import sidak
from watermark.statistics.rademacher import RademacherTail

Floats = NDArray[np.float64]
Rng = np.random.Generator
RESAMPLES = 1000


@dataclass(frozen=True)
class Prior:
    """What an attacker learns from texts of their own, marked with a key of their own, and from unmarked ones."""

    background: Floats
    """(n,) mean direction of unmarked text; subtracted."""
    strength: float
    """β: the mean z of a marked text, divided by 1 - `likeness`."""
    likeness: float
    """Mean inner product of two texts with one codeword."""
    noise: float
    """Standard deviation of the inner product of texts with different codewords."""

    @classmethod
    def learn(cls, unmarked: Floats, marked: Floats, signs: Floats, rng: Rng) -> Prior:
        """`unmarked` (m, n) and `marked` (p, n) evidence, `signs` (p, n) of the attacker's own codewords."""
        background = directions(unmarked).mean(axis=0)
        own = directions(marked, background) * signs
        pairs = np.triu_indices(len(own), 1)
        other = own * rng.choice([-1.0, 1.0], size=own.shape)
        likeness, noise = (own @ own.T)[pairs].mean(), (other @ other.T)[pairs].std()
        return cls(background, float(own.sum(axis=1).mean() / (1.0 - likeness)), float(likeness), float(noise))


@dataclass(frozen=True)
class Groups:
    """Groups of texts that seem to share a codeword, the one most likely to be one first."""

    signs: Floats
    """(groups, n) soft signs in -1 … 1."""
    sizes: list[int]


def directions(evidence: Floats, background: Floats | None = None) -> Floats:
    """Rows scaled to length 1, the background taken away, and scaled again. A row of zeros stays one."""
    unit = _unit(np.asarray(evidence, dtype=np.float64))
    return unit if background is None else _unit(unit - background)


def resign(evidence: Floats, old: Floats, new: Floats) -> Floats:
    """Evidence of texts marked with signs `old` as if they had been marked with `new`; see the head of this module."""
    return evidence * old * new


def soft_signs(units: Floats, strength: float) -> Floats:
    """(n,) expected signs of the one codeword behind `units` (m, n)."""
    return np.tanh(strength * units.sum(axis=0))


def group(units: Floats, prior: Prior, codewords: int) -> Groups:
    """Group texts (m, n) by codeword, of which there are `codewords`.

    Two texts are thought alike above half the likeness expected, or where chance seldom goes among as many pairs, whichever is more.
    """
    count = len(units)
    if codewords == 1:
        return Groups(soft_signs(units, prior.strength)[None], [count])
    if count == 1:
        return Groups(soft_signs(units, prior.strength)[None], [1])
    chance = prior.noise * np.sqrt(2.0 * np.log(count))
    distances = 1.0 - np.clip((units @ units.T)[np.triu_indices(count, 1)], -1.0, 1.0)
    labels = fcluster(linkage(distances, "average"), 1.0 - max(prior.likeness / 2.0, chance), "distance")
    members = [units[labels == label] for label in np.unique(labels)]
    # Texts that agree add up to a longer vector than texts that do not: |Σu|² is their number plus twice their inner products.
    members.sort(key=lambda rows: float(np.square(rows.sum(axis=0)).sum()) - len(rows), reverse=True)
    return Groups(np.stack([soft_signs(rows, prior.strength) for rows in members]), [len(rows) for rows in members])


def scores(units: Floats, signs: Floats) -> Floats:
    """(m,) how much each text looks like the best of the estimated codewords (groups, n): the largest z."""
    return (units @ signs.T / np.sqrt(np.maximum(np.square(units) @ np.square(signs).T, 1e-12))).max(axis=1)


def needed_z(evidence: Floats, candidates: int, rate: float) -> float:
    """The smallest z = s·e / |e| of the best candidate that a verifier calls marked, for the evidence (n,) of one text."""
    tail, length = RademacherTail(evidence), float(np.linalg.norm(evidence))
    low, high = 0.0, 40.0
    for _ in range(24):
        middle = (low + high) / 2
        if sidak(float(tail.pvalue(middle * length)), candidates) < rate:
            high = middle
        else:
            low = middle
    return high


def simulated_forgery(signs: Floats, truth: Floats, own: Floats) -> Floats:
    """(m,) z of forgeries written with hard signs, had they carried as much as marked texts do.

    `signs` (n,) estimated, `truth` (n,) the issuer's, `own` (m, n) directions of real marked texts times their signs. Where an
    estimated sign is right a text carries what it would, where it is wrong the same against it.
    """
    return own @ (np.where(signs >= 0, 1.0, -1.0) * truth)


def simulated_sharing(count: int, codewords: int, texts: int, rng: Rng) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of `texts` real texts, and which codeword, each of `count` simulated texts has.

    Beyond the number of real ones they are used again, but never twice with one codeword. Raises ValueError where that is impossible.
    """
    if count > texts * codewords:
        raise ValueError(f"{count} texts of {codewords} codewords cannot be simulated from {texts}.")
    text = np.concatenate([rng.permutation(texts) for _ in range(-(-count // texts))])[:count]
    codeword = rng.integers(codewords, size=count)
    taken: set[tuple[int, int]] = set()
    for i in range(count):
        while (int(text[i]), int(codeword[i])) in taken:
            codeword[i] = rng.integers(codewords)
        taken.add((int(text[i]), int(codeword[i])))
    return text, codeword


@dataclass(frozen=True)
class Separation:
    """How well scores tell two kinds of texts apart, with 95 % intervals over texts."""

    auc: float
    auc_interval: tuple[float, float]
    found: float
    """Share of the first kind above the score that `rate` of the second kind exceeds."""
    found_interval: tuple[float, float]


def separation(positive: Floats, negative: Floats, rate: float, seed: int, resamples: int = RESAMPLES) -> Separation:
    """`positive` (trials, p), `negative` (trials, q): one column per text, which is resampled whole; thresholds are drawn anew."""
    positive, negative = np.atleast_2d(positive), np.atleast_2d(negative)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        p = positive[:, rng.integers(positive.shape[1], size=positive.shape[1])]
        q = negative[:, rng.integers(negative.shape[1], size=negative.shape[1])]
        values.append((auc(p, q), found_at(p, q, rate)))
    (auc_low, found_low), (auc_high, found_high) = np.quantile(np.array(values), [0.025, 0.975], axis=0)
    return Separation(
        auc(positive, negative),
        (float(auc_low), float(auc_high)),
        found_at(positive, negative, rate),
        (float(found_low), float(found_high)),
    )


def auc(positive: Floats, negative: Floats) -> float:
    """Chance that a positive scores above a negative; ties count half."""
    order = np.sort(negative, axis=None)
    below, upto = np.searchsorted(order, positive, side="left"), np.searchsorted(order, positive, side="right")
    return float((below + upto).mean() / 2 / order.size)


def found_at(positive: Floats, negative: Floats, rate: float) -> float:
    """Share of positives above a threshold that at most `rate` of the negatives exceed."""
    order = np.sort(negative, axis=None)
    threshold = order[-1 - int(rate * order.size)]
    return float((positive > threshold).mean())


def coherence(per_token: Floats) -> float:
    """How far a text's tokens agree on *some* codeword, in standard deviations: no key and no other text is needed.

    |Σ_t e_t|² − Σ_t |e_t|² is the sum of inner products between different tokens; without a mark their signs are as good as random.
    """
    squares = np.square(per_token)
    per_slot = squares.sum(axis=0)
    spread = 2.0 * float((np.square(per_slot) - np.square(squares).sum(axis=0)).sum())
    between = float((np.square(per_token.sum(axis=0)) - per_slot).sum())
    return between / np.sqrt(spread) if spread > 0 else 0.0


def _unit(rows: Floats) -> Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
