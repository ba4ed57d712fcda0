"""The tournament: m rounds that reweight a distribution without bias.

Each round sets p ← p · (1 + g − E_p[g]) with |g| ≤ ½, so p stays a distribution; and because a round's g is odd in that
round's own block of random signs, the mean of the final distribution over uniformly random codewords is exactly the
initial one. (Two-leaf tournament sampling of SynthID-Text, Dathathri et al., Nature 634, 2024, with soft scores.)
"""

from __future__ import annotations

import torch
from torch import Tensor


def round_scores(attention: Tensor, signs: Tensor, codes: Tensor, sharpness: Tensor | float) -> Tensor:
    """g for every round and candidate: ½ · tanh(sharpness · Σ_i a_i s_i κ_i(c)), odd in `signs` and within ±½.

    attention (N, rounds, slots), signs (N, rounds * slots), codes (N, K, rounds * slots) → (N, rounds, K).
    """
    rounds, slots = attention.shape[-2:]
    weighted = (attention * signs.unflatten(-1, (rounds, slots))).unsqueeze(-1)  # (N, m, S, 1)
    per_round = codes.unflatten(-1, (rounds, slots)).transpose(-3, -2)  # (N, m, K, S)
    return 0.5 * torch.tanh(sharpness * (per_round @ weighted).squeeze(-1))


def tournament(probs: Tensor, scores: Tensor) -> Tensor:
    """Reweight `probs` (N, K) by `scores` (N, rounds, K), round after round → (N, K), summing to what `probs` summed to."""
    for g in scores.unbind(dim=-2):
        mean = (probs * g).sum(dim=-1, keepdim=True)
        # |g| <= 1/2 keeps the factor at 0 or above; rounding alone can push it a hair below.
        probs = probs * (1.0 + g - mean).clamp(min=0.0)
    return probs
