"""Repeated contexts: a context that already carried a mark in this text is not marked again.

Without this, a context that recurs pushes the same tokens each time and the text starts to loop. "Recurs" has two meanings, and
each excludes a position: the same `CONTEXT_TOKENS` tokens stood before an earlier marked position (masking of n-gram contexts as in
SynthID-Text; it ends loops of whole sentences), or the attention vectors, which steer the mark, are alike (cosine above a threshold).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CONTEXT_TOKENS = 2
WINDOW = 1024
"""Contexts looked back upon while a text is read: bounds the work per token, so that verification stays linear."""


class ContextMemory:
    """Contexts marked so far in each text of a batch, and the tokens drawn there. One per running batch; it travels with the call.

    Rows may have come at different times: each counts its own steps.
    """

    def __init__(self, batch: int, capacity: int, n: int, device: torch.device | str = "cpu") -> None:
        self.seen = torch.zeros(batch, capacity, n, device=device)
        self.marked = torch.zeros(batch, capacity, dtype=torch.bool, device=device)
        self.tokens = torch.full((batch, capacity), -1, dtype=torch.long, device=device)
        self.steps = torch.zeros(batch, dtype=torch.long, device=device)
        self.likeness = torch.zeros(batch, 0, device=device)
        """(B, steps of the oldest row) cosine of the latest context to each one marked before; 0 where that one was not marked."""
        self._oldest = 0

    def check_and_add(self, attention: Tensor, eligible: Tensor, threshold: float) -> Tensor:
        """`attention` (B, rounds, slots), `eligible` (B,) bool → (B,) bool: eligible and no repetition of a context marked before.

        The contexts found new are remembered.
        """
        oldest = self._oldest
        if oldest == self.seen.shape[1]:
            self._grow(max(64, oldest // 2))
        unit = F.normalize(attention.flatten(1), dim=-1)  # (B, n)
        self.likeness = torch.einsum("btn,bn->bt", self.seen[:, :oldest], unit)
        if oldest:
            keys = context_keys(self.tokens[:, : oldest + 1])
            # A row's places beyond its own steps are not marked, so what they hold does not matter.
            same = keys[:, :-1] == keys.gather(1, self.steps.unsqueeze(1))
            repeated = (self.likeness > threshold) | (same & self.marked[:, :oldest])
            eligible = eligible & ~repeated.any(dim=1)
        rows = torch.arange(len(unit), device=unit.device)
        self.seen[rows, self.steps] = unit * eligible.unsqueeze(-1)
        self.marked[rows, self.steps] = eligible
        self.steps = self.steps + 1
        self._oldest += 1
        return eligible

    def drawn_before(self, candidates: Tensor, threshold: float) -> Tensor:
        """candidates (B, K) → (B, K) bool: drawn before in a marked context whose likeness to the latest one exceeds `threshold`."""
        same = candidates.unsqueeze(-1) == self.tokens[:, : self.likeness.shape[1]].unsqueeze(1)  # (B, K, steps)
        return (same & (self.likeness > threshold).unsqueeze(1)).any(dim=-1)

    def record(self, tokens: Tensor) -> None:
        """The tokens (B,) drawn after the latest contexts."""
        self.tokens[torch.arange(len(tokens), device=tokens.device), self.steps - 1] = tokens

    def append(self, rows: int) -> None:
        """New texts, of which nothing is remembered yet."""
        self.seen = torch.cat([self.seen, self.seen.new_zeros(rows, *self.seen.shape[1:])])
        self.marked = torch.cat([self.marked, self.marked.new_zeros(rows, self.marked.shape[1])])
        self.tokens = torch.cat([self.tokens, self.tokens.new_full((rows, self.tokens.shape[1]), -1)])
        self.steps = torch.cat([self.steps, self.steps.new_zeros(rows)])

    def remove(self, row: int) -> None:
        """Forget a text; the last one takes its place."""
        last = len(self.steps) - 1
        for values in (self.seen, self.marked, self.tokens, self.steps):
            values[row] = values[last].clone()
        self.seen, self.marked, self.tokens, self.steps = self.seen[:last], self.marked[:last], self.tokens[:last], self.steps[:last]
        self._oldest = int(self.steps.max()) if last else 0

    def _grow(self, more: int) -> None:
        self.seen = F.pad(self.seen, (0, 0, 0, more))
        self.marked = F.pad(self.marked, (0, more))
        self.tokens = F.pad(self.tokens, (0, more), value=-1)


def context_keys(ids: Tensor) -> Tensor:
    """Token ids (B, T) → (B, T) numbers that agree exactly where the `CONTEXT_TOKENS` tokens *before* a position agree.

    The first positions, whose context begins before the text, agree with no other.
    """
    length = ids.shape[1]
    keys = -1 - torch.arange(length, device=ids.device).repeat(len(ids), 1)
    if length > CONTEXT_TOKENS:
        key = torch.zeros_like(keys[:, CONTEXT_TOKENS:])
        for back in range(CONTEXT_TOKENS, 0, -1):  # 21 bits a token: vocabularies of up to two million
            key = (key << 21) | ids[:, CONTEXT_TOKENS - back : length - back].long()
        keys[:, CONTEXT_TOKENS:] = key
    return keys


def first_occurrences(attention: Tensor, ids: Tensor, valid: Tensor, threshold: float, window: int = WINDOW) -> Tensor:
    """The same rule over finished texts: attention (B, T, rounds, slots), ids (B, T), valid (B, T) → (B, T) bool, True where new.

    Sequential by nature (whether t counts depends on which earlier ones counted), but the comparisons are one product per block.
    """
    unit = F.normalize(attention.flatten(2), dim=-1)  # (B, T, n)
    keys = context_keys(ids)
    new = torch.zeros_like(valid)
    for start in range(0, unit.shape[1], window):
        low, stop = max(0, start - window), start + window
        alike = torch.einsum("bin,bjn->bij", unit[:, start:stop], unit[:, low:stop]) > threshold  # (B, block, look-back)
        alike |= keys[:, start:stop].unsqueeze(2) == keys[:, low:stop].unsqueeze(1)
        for i in range(alike.shape[1]):
            t = start + i
            seen_before = (alike[:, i, : t - low] & new[:, low:t]).any(dim=1)
            new[:, t] = valid[:, t] & ~seen_before
    return new
