"""The tournament: m rounds that reweight a distribution without bias.

Each round sets p ← p · (1 + g − E_p[g]) with |g| ≤ ½, so p stays a distribution; and because a round's g is odd in that
round's own block of random signs, the mean of the final distribution over uniformly random codewords is exactly the
initial one. (Two-leaf tournament sampling of SynthID-Text, Dathathri et al., Nature 634, 2024, with soft scores.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from watermark.compiled import CACHE_LINE, compiled


def round_scores(attention: Tensor, signs: Tensor, codes: Tensor, sharpness: Tensor | float) -> Tensor:
    """g for every round and candidate: ½ · tanh(sharpness · Σ_i a_i s_i κ_i(c)), odd in `signs` and within ±½.

    attention (N, rounds, slots), signs (N, rounds * slots), codes (N, K, rounds * slots) → (N, rounds, K).
    """
    rounds, slots = attention.shape[-2:]
    weighted = (attention * signs.unflatten(-1, (rounds, slots))).unsqueeze(-3)  # (N, 1, m, S)
    # As products and sums in the order in which the codes lie: a matrix product would first have to copy them round by round.
    sums = (codes.unflatten(-1, (rounds, slots)) * weighted).sum(dim=-1)  # (N, K, m)
    return 0.5 * torch.tanh(sharpness * sums).transpose(-2, -1)


def packed_scores(attention: np.ndarray, signs: np.ndarray, table: np.ndarray, ids: np.ndarray, sharpness: float) -> np.ndarray:
    """`round_scores` while text is written: attention (N, rounds, slots), signs (N, rounds * slots), the packed codes of all tokens uint8
    (V, rounds * slots / 8) and candidates (N, K) → float32 (N, rounds, K). Raises IndexError for a candidate without a code."""
    weights = np.ascontiguousarray(attention.reshape(len(attention), -1) * signs, np.float32)
    weights *= np.float32(sharpness)
    scores = np.empty((len(weights), attention.shape[1], ids.shape[1]), np.float32)
    if _sum_signs(weights, table, np.ascontiguousarray(ids), scores) < 0:
        raise IndexError(f"Token {ids.max()} is beyond the vocabulary of {len(table)} that token codes were made for.")
    np.tanh(scores, out=scores)
    scores *= np.float32(0.5)
    return scores


@compiled
def _sum_signs(weights, table, ids, scores):
    """scores[row, l, k] = Σ over the bits i of round l of ±weights[row, i], as bit i of the code of candidate k is 1 or 0. Negative is
    returned for a candidate without a code."""
    rows, n = weights.shape
    _, rounds, candidates = scores.shape
    slots, size = n // rounds, n // 8
    asked = 0
    for row in range(rows):  # The table is far larger than the caches: all the lines are on their way before the first one is needed.
        for k in range(candidates):
            if not 0 <= ids[row, k] < len(table):
                return -1
            for byte in range(0, size, CACHE_LINE):
                asked += table[ids[row, k], byte]
    codes = np.empty((size, candidates), np.uint8)
    positive = np.empty(candidates, np.float32)
    for row in range(rows):
        for k in range(candidates):
            for byte in range(size):
                codes[byte, k] = table[ids[row, k], byte]
        for number in range(rounds):
            everything = np.float32(0.0)
            positive[:] = 0.0
            for i in range(number * slots, (number + 1) * slots):  # candidates side by side: as many at once as the CPU's registers hold
                weight, bits, shift = weights[row, i], codes[i // 8], np.uint8(7 - i % 8)
                everything += weight
                for k in range(candidates):
                    positive[k] += weight * np.float32((bits[k] >> shift) & np.uint8(1))
            for k in range(candidates):
                scores[row, number, k] = np.float32(2.0) * positive[k] - everything
    return asked  # so that asking is not left out


def tournament(probs: Tensor, scores: Tensor) -> Tensor:
    """Reweight `probs` (N, K), which sum to 1, by `scores` (N, rounds, K), round after round → (N, K), of the same sum; differentiable."""
    for score in scores.unbind(dim=1):
        mean = (probs * score).sum(dim=-1, keepdim=True)
        probs = probs * (1.0 + score - mean)
    return probs.clip(min=0.0)  # |g| <= 1/2 keeps every factor at 0 or above; rounding alone can push one a hair below


@compiled
def reweight(probs, scores, strength, marked, kept, out):
    """`tournament` while text is written, into `out` (N, K), with `scores` times `strength` (N,). Candidates that are `kept` (N, K), and
    all of a row that is not `marked` (N,), keep their probability; the others share what is left."""
    rows, candidates = probs.shape
    p = np.empty(candidates, np.float32)
    for row in range(rows):
        share = np.float32(0.0)
        for k in range(candidates):
            p[k] = np.float32(0.0) if kept[row, k] or not marked[row] else probs[row, k]
            share += p[k]
        if share > 0:
            p /= share
            for number in range(scores.shape[1]):
                score = scores[row, number]
                mean, times = np.float32(0.0), np.float32(strength[row])
                for k in range(candidates):
                    mean += p[k] * score[k]
                for k in range(candidates):
                    p[k] *= np.float32(1.0) + times * (score[k] - mean)
        for k in range(candidates):
            out[row, k] = probs[row, k] if kept[row, k] or not marked[row] else max(p[k], np.float32(0.0)) * share


@compiled
def undecided(probs, strength):
    """Rows of `probs` (N, K) that can be marked → (N,) bool: at a strength (N,) above 0, and with more than one candidate."""
    found = np.empty(len(probs), np.bool_)
    for row in range(len(probs)):
        found[row] = strength[row] > 0 and probs[row].max() < 1.0
    return found
