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
    weighted = (attention * signs.unflatten(-1, (rounds, slots))).unsqueeze(-3)  # (N, 1, m, S)
    # As products and sums in the order in which the codes lie: a matrix product would first have to copy them round by round.
    sums = (codes.unflatten(-1, (rounds, slots)) * weighted).sum(dim=-1)  # (N, K, m)
    return 0.5 * torch.tanh(sharpness * sums).transpose(-2, -1)


def tournament(probs: Tensor, scores: Tensor) -> Tensor:
    """Reweight `probs` (N, K) by `scores` (N, rounds, K), round after round → (N, K), summing to what `probs` summed to."""
    total = probs.sum(dim=-1, keepdim=True)
    for factor in (1.0 + scores).unbind(dim=-2):
        raised = probs * factor
        probs = torch.addcmul(raised, probs, raised.sum(dim=-1, keepdim=True) - total, value=-1.0)
    return probs.clamp(min=0.0)  # |g| <= 1/2 keeps every factor at 0 or above; rounding alone can push one a hair below
