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
BITS = 21
"""Of a token in a context's key: vocabularies of up to two million."""
WINDOW = 1024
"""Contexts looked back upon while a text is read: bounds the work per token, so that verification stays linear."""


class ContextMemory:
    """Contexts marked so far in each text of a batch, and the tokens drawn there. One per running batch; it travels with the call.

    Rows may have come at different times: each counts its own steps.
    """

    def __init__(self, batch: int, capacity: int, n: int, device: torch.device | str = "cpu") -> None:
        self.seen = torch.zeros(batch, n, capacity, device=device)
        """Attention of the marked contexts as unit vectors, a column each: so the comparison with a new one reads memory in order."""
        self.marked = torch.zeros(batch, capacity, dtype=torch.bool, device=device)
        self.keys = torch.zeros(batch, capacity, dtype=torch.long, device=device)
        """`context_key` of each step."""
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
        if oldest == self.marked.shape[1]:
            self._grow(max(64, oldest // 2))
        unit = F.normalize(attention.flatten(1), dim=-1)  # (B, n)
        rows = torch.arange(len(unit), device=unit.device)
        key = self._context_key(rows)
        # A row's places beyond its own steps are not marked, so what they hold does not matter.
        self.likeness = torch.bmm(unit.unsqueeze(1), self.seen[:, :, :oldest]).squeeze(1)
        same = (self.keys[:, :oldest] == key.unsqueeze(1)) & self.marked[:, :oldest]
        eligible = eligible & ~((self.likeness > threshold) | same).any(dim=1)
        self.seen[rows, :, self.steps] = unit * eligible.unsqueeze(-1)
        self.marked[rows, self.steps] = eligible
        self.keys[rows, self.steps] = key
        self.steps = self.steps + 1
        self._oldest += 1
        return eligible

    def _context_key(self, rows: Tensor) -> Tensor:
        """(B,): a number that two steps share exactly where the `CONTEXT_TOKENS` tokens before them agree; see `context_keys`."""
        key = torch.zeros_like(self.steps)
        for back in range(CONTEXT_TOKENS, 0, -1):
            key = (key << BITS) | self.tokens[rows, (self.steps - back).clamp(min=0)]
        return torch.where(self.steps < CONTEXT_TOKENS, -1 - self.steps, key)

    def drawn_before(self, candidates: Tensor, threshold: float) -> Tensor:
        """candidates (B, K) → (B, K) bool: drawn before in a marked context whose likeness to the latest one exceeds `threshold`."""
        tokens = self.tokens[:, : self.likeness.shape[1]].masked_fill(self.likeness <= threshold, -1)
        return (candidates.unsqueeze(-1) == tokens.unsqueeze(1)).any(dim=-1)

    def record(self, tokens: Tensor) -> None:
        """The tokens (B,) drawn after the latest contexts."""
        self.tokens[torch.arange(len(tokens), device=tokens.device), self.steps - 1] = tokens

    def append(self, rows: int) -> None:
        """New texts, of which nothing is remembered yet."""
        for name, empty in (("seen", 0.0), ("marked", False), ("keys", 0), ("tokens", -1), ("steps", 0)):
            values = getattr(self, name)
            setattr(self, name, torch.cat([values, values.new_full((rows, *values.shape[1:]), empty)]))

    def remove(self, row: int) -> None:
        """Forget a text; the last one takes its place."""
        last = len(self.steps) - 1
        for name in ("seen", "marked", "keys", "tokens", "steps"):
            values = getattr(self, name)
            values[row] = values[last].clone()
            setattr(self, name, values[:last])
        self._oldest = int(self.steps.max()) if last else 0

    def _grow(self, more: int) -> None:
        self.seen = F.pad(self.seen, (0, more))
        self.marked = F.pad(self.marked, (0, more))
        self.keys = F.pad(self.keys, (0, more))
        self.tokens = F.pad(self.tokens, (0, more), value=-1)


def context_keys(ids: Tensor) -> Tensor:
    """Token ids (B, T) → (B, T) numbers that agree exactly where the `CONTEXT_TOKENS` tokens *before* a position agree.

    The first positions, whose context begins before the text, agree with no other.
    """
    length = ids.shape[1]
    keys = -1 - torch.arange(length, device=ids.device).repeat(len(ids), 1)
    if length > CONTEXT_TOKENS:
        key = torch.zeros_like(keys[:, CONTEXT_TOKENS:])
        for back in range(CONTEXT_TOKENS, 0, -1):
            key = (key << BITS) | ids[:, CONTEXT_TOKENS - back : length - back].long()
        keys[:, CONTEXT_TOKENS:] = key
    return keys


def first_occurrences(attention: Tensor, ids: Tensor, valid: Tensor, threshold: float, window: int = WINDOW) -> Tensor:
    """The same rule over finished texts: attention (B, T, rounds, slots), ids (B, T), valid (B, T) → (B, T) bool, True where new.

    Whether t counts depends on which earlier ones counted. Starting from "all of them", each round of a block makes at least one more
    position final, and hardly ever are more than four rounds needed.
    """
    unit = F.normalize(attention.flatten(2), dim=-1)  # (B, T, n)
    keys = context_keys(ids)
    new = torch.zeros_like(valid)
    for start in range(0, unit.shape[1], window):
        low, stop = max(0, start - window), start + window
        alike = torch.einsum("bin,bjn->bij", unit[:, start:stop], unit[:, low:stop]) > threshold  # (B, block, look-back)
        alike |= keys[:, start:stop].unsqueeze(2) == keys[:, low:stop].unsqueeze(1)
        alike = alike.tril(start - low - 1)  # to earlier ones
        free, found = valid[:, start:stop], valid[:, start:stop]
        while True:
            new[:, start:stop] = found
            # A product says "any" several times faster than a reduction over booleans does.
            repeated = torch.einsum("bij,bj->bi", alike.to(unit.dtype), new[:, low:stop].to(unit.dtype)) > 0
            found = free & ~repeated
            if torch.equal(found, new[:, start:stop]):
                break
    return new
