"""The tournament: m rounds that reweight a distribution without bias.

Each round sets p ← p · (1 + g − E_p[g]) with |g| ≤ ½, so p stays a distribution; and because a round's g is odd in that
round's own block of random signs, the mean of the final distribution over uniformly random codewords is exactly the
initial one. (Two-leaf tournament sampling of SynthID-Text, Dathathri et al., Nature 634, 2024, with soft scores.)
"""

from __future__ import annotations

import functools
import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", Tensor, np.ndarray)


def round_scores(attention: Tensor, signs: Tensor, codes: Tensor, sharpness: Tensor | float) -> Tensor:
    """g for every round and candidate: ½ · tanh(sharpness · Σ_i a_i s_i κ_i(c)), odd in `signs` and within ±½.

    attention (N, rounds, slots), signs (N, rounds * slots), codes (N, K, rounds * slots) → (N, rounds, K).
    """
    rounds, slots = attention.shape[-2:]
    weighted = (attention * signs.unflatten(-1, (rounds, slots))).unsqueeze(-3)  # (N, 1, m, S)
    # As products and sums in the order in which the codes lie: a matrix product would first have to copy them round by round.
    sums = (codes.unflatten(-1, (rounds, slots)) * weighted).sum(dim=-1)  # (N, K, m)
    return 0.5 * torch.tanh(sharpness * sums).transpose(-2, -1)


def packed_scores(attention: np.ndarray, signs: np.ndarray, packed: np.ndarray, sharpness: float) -> np.ndarray:
    """`round_scores` of codes as they are kept, uint8 (N, K, rounds * slots / 8), while text is written: float32 (N, rounds, K).

    A byte of a code is one of 256 patterns, whose sums are made once for all candidates of a row; a candidate then costs a look-up a byte
    in place of eight products.
    """
    rows, rounds, slots = attention.shape
    candidates = packed.shape[1]
    width = math.gcd(slots, 8)  # bits looked up together: a byte, if it lies within one round
    if width < 8:
        packed = (packed[..., None] >> np.arange(8 - width, -1, -width, dtype=np.uint8)) & (2**width - 1)
        packed = packed.reshape(rows, candidates, -1)
    weights = (attention.reshape(rows, -1) * signs).reshape(rows, -1, width)
    patterns, parts = _patterns(width), weights.shape[1]
    first = np.arange(parts, dtype=np.int32) << width
    # Row by row, in the same memory: the sums of a row are 128 KB, and those of a batch would leave the cache before they are looked up.
    sums = np.empty((parts, 1 << width), np.float32)
    places, found = np.empty((candidates, parts), np.int32), np.empty((candidates, parts), np.float32)
    scores = np.empty((rows, rounds, candidates), np.float32)
    for row in range(rows):
        np.matmul(weights[row], patterns, out=sums)
        np.add(packed[row], first, out=places)
        sums.ravel().take(places, out=found, mode="clip")  # none is outside, and the other modes copy
        by_round = found.reshape(candidates, rounds, -1)
        scores[row] = functools.reduce(np.add, (by_round[..., part] for part in range(by_round.shape[-1]))).T
    scores *= np.float32(sharpness)
    np.tanh(scores, out=scores)
    scores *= np.float32(0.5)
    return scores


@functools.cache
def _patterns(width: int) -> np.ndarray:
    """Every pattern of so many ±1, as columns (width, 2 ** width), the first bit the highest."""
    bits = np.arange(2**width) >> np.arange(width - 1, -1, -1)[:, None] & 1
    return (2 * bits - 1).astype(np.float32)


def tournament(probs: Array, scores: Array) -> Array:
    """Reweight `probs` (N, K), which sum to 1 or are all 0, by `scores` (N, rounds, K), round after round → (N, K), with the same sum.

    For torch, which differentiates it, and for numpy, whose operations on few numbers start sooner.
    """
    raised = 1.0 + scores
    for number in range(scores.shape[1]):
        mean = (probs[:, None, :] @ scores[:, number, :, None])[:, 0]
        probs = probs * (raised[:, number] - mean)
    return probs.clip(min=0.0)  # |g| <= 1/2 keeps every factor at 0 or above; rounding alone can push one a hair below
