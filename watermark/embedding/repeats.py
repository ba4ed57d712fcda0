"""Repeated contexts: a context that already carried a mark in this text is not marked again.

Without this, a context that recurs pushes the same tokens each time and the text starts to loop. "The same" is soft, as
the contexts are: the cosine of the attention vectors, above a threshold.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 1024
"""Contexts looked back upon while a text is read: bounds the work per token, so that verification stays linear."""


class ContextMemory:
    """Contexts marked so far in each text of a batch, and the tokens drawn there. One per running batch; it travels with the call."""

    def __init__(self, batch: int, capacity: int, n: int, device: torch.device | str = "cpu") -> None:
        self.seen = torch.zeros(batch, capacity, n, device=device)
        self.tokens = torch.full((batch, capacity), -1, dtype=torch.long, device=device)
        self.likeness = torch.zeros(batch, 0, device=device)
        """(B, steps) cosine of the latest context to each one marked before; 0 where that one was not marked."""
        self.steps = 0

    def check_and_add(self, attention: Tensor, eligible: Tensor, threshold: float) -> Tensor:
        """`attention` (B, rounds, slots), `eligible` (B,) bool → (B,) bool: eligible and not like any context marked before.

        The contexts found new are remembered.
        """
        unit = F.normalize(attention.flatten(1), dim=-1)  # (B, n)
        self.likeness = torch.einsum("btn,bn->bt", self.seen[:, : self.steps], unit)
        if self.steps:
            eligible = eligible & (self.likeness.amax(dim=1) <= threshold)
        self.seen[:, self.steps] = unit * eligible.unsqueeze(-1)
        self.steps += 1
        return eligible

    def drawn_before(self, candidates: Tensor, threshold: float) -> Tensor:
        """candidates (B, K) → (B, K) bool: drawn before in a marked context whose likeness to the latest one exceeds `threshold`."""
        same = candidates.unsqueeze(-1) == self.tokens[:, : self.likeness.shape[1]].unsqueeze(1)  # (B, K, steps)
        return (same & (self.likeness > threshold).unsqueeze(1)).any(dim=-1)

    def record(self, tokens: Tensor) -> None:
        """The tokens (B,) drawn after the latest contexts."""
        self.tokens[:, self.steps - 1] = tokens


def first_occurrences(attention: Tensor, valid: Tensor, threshold: float, window: int = WINDOW) -> Tensor:
    """The same rule over finished texts: attention (B, T, rounds, slots), valid (B, T) → (B, T) bool, True where new.

    Sequential by nature (whether t counts depends on which earlier ones counted), but the likeness is one product per block.
    """
    unit = F.normalize(attention.flatten(2), dim=-1)  # (B, T, n)
    new = torch.zeros_like(valid)
    for start in range(0, unit.shape[1], window):
        low = max(0, start - window)
        block = unit[:, start : start + window]
        alike = torch.einsum("bin,bjn->bij", block, unit[:, low : start + window]) > threshold  # (B, block, look-back)
        for i in range(block.shape[1]):
            t = start + i
            seen_before = (alike[:, i, : t - low] & new[:, low:t]).any(dim=1)
            new[:, t] = valid[:, t] & ~seen_before
    return new
