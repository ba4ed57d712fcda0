"""Repeated contexts: a context that already carried a mark in this text is not marked again.

Without this, a context that recurs pushes the same tokens each time and the text starts to loop. "Recurs" has two meanings, and
each excludes a position: the same `CONTEXT_TOKENS` tokens stood before an earlier marked position (masking of n-gram contexts as in
SynthID-Text; it ends loops of whole sentences), or the attention vectors, which steer the mark, are alike (cosine above a threshold).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from watermark.compiled import compiled

CONTEXT_TOKENS = 2
BITS = 21
"""Of a token in a context's key: vocabularies of up to two million."""
KEY = (1 << BITS * CONTEXT_TOKENS) - 1
WINDOW = 1024
"""Contexts looked back upon while a text is read: bounds the work per token, so that verification stays linear."""


LONG = {"seen": 0, "scale": 0.0, "marked": False, "keys": 0, "tokens": -1}
"""Arrays of a memory with a place for every step, and what stands in a place that was not used."""
FIELDS = (*LONG, "steps", "recent")


class ContextMemory:
    """Contexts marked so far in each text of a batch, and the tokens drawn there. One per running batch; it travels with the call.

    Rows may have come at different times: each counts its own steps. The arrays are in main memory, on any device.
    """

    def __init__(self, batch: int, capacity: int, n: int) -> None:
        self._rows = np.arange(batch)
        self.seen = np.zeros((batch, capacity, n), dtype=np.int16)
        self.scale = np.zeros((batch, capacity), dtype=np.float32)
        """Attention of the marked contexts: seen times scale is a unit vector. In 16 bits, because all of it is read for every token; a
        cosine is a few millionths off."""
        self.marked = np.zeros((batch, capacity), dtype=bool)
        self.keys = np.zeros((batch, capacity), dtype=np.int64)
        """`context_keys` of each step."""
        self.tokens = np.full((batch, capacity), -1, dtype=np.int64)
        self.steps = np.zeros(batch, dtype=np.int64)
        self.recent = np.zeros(batch, dtype=np.int64)
        """The key that the next step has once it has `CONTEXT_TOKENS` tokens before it."""
        self.likeness = np.zeros((batch, 0), dtype=np.float32)
        """(B, steps of the oldest row) cosine of the latest context to each one marked before; 0 where that one was not marked."""
        self._oldest = 0

    def check_and_add(self, attention: np.ndarray, eligible: np.ndarray, threshold: float) -> np.ndarray:
        """`attention` float32 (B, n), `eligible` (B,) bool → (B,) bool: eligible and no repetition of a context marked before.

        The contexts found new are remembered.
        """
        oldest = self._oldest
        if oldest == self.marked.shape[1]:
            self._grow(max(64, oldest // 2))
        self.likeness = np.zeros((len(self.steps), oldest), np.float32)
        new = eligible.copy()
        _compare_and_add(attention, self.recent, self.steps, self.seen, self.scale, self.marked, self.keys, threshold, self.likeness, new)
        self._oldest += 1
        return new

    def drawn_before(self, candidates: np.ndarray, threshold: float) -> np.ndarray:
        """candidates (B, K) → (B, K) bool: drawn before in a marked context whose likeness to the latest one exceeds `threshold`."""
        drawn = np.zeros(candidates.shape, bool)
        _find_drawn(candidates, self.likeness, self.tokens, threshold, drawn)
        return drawn

    def record(self, tokens: np.ndarray) -> None:
        """The tokens (B,) drawn after the latest contexts."""
        _record(tokens, self.tokens, self.steps, self.recent)

    def append(self, rows: int) -> None:
        """New texts, of which nothing is remembered yet."""
        self.join(ContextMemory(rows, self.marked.shape[1], self.seen.shape[2]))

    def join(self, other: ContextMemory) -> None:
        """The texts of `other` come after these."""
        room = max(self.marked.shape[1], other.marked.shape[1])
        for memory in (self, other):
            memory._grow(room - memory.marked.shape[1])
        for name in FIELDS:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(other, name)]))
        self._rows = np.arange(len(self.steps))
        self._oldest = max(self._oldest, other._oldest)

    def take(self, row: int) -> ContextMemory:
        """What is remembered of one text, which is removed here: it may be joined to another batch later."""
        steps = int(self.steps[row])
        taken = ContextMemory(1, steps, self.seen.shape[2])
        for name in FIELDS:
            values = getattr(self, name)[row : row + 1]
            setattr(taken, name, (values[:, :steps] if name in LONG else values).copy())
        taken._oldest = steps
        self.remove(row)
        return taken

    def remove(self, row: int) -> None:
        """Forget a text; the last one takes its place."""
        last = len(self.steps) - 1
        for name in FIELDS:
            values = getattr(self, name)
            values[row] = values[last]
            setattr(self, name, values[:last])
        self._rows = np.arange(last)
        self._oldest = int(self.steps.max()) if last else 0

    def _grow(self, more: int) -> None:
        for name, empty in LONG.items():
            values = getattr(self, name)
            room = np.full((values.shape[0], more, *values.shape[2:]), empty, dtype=values.dtype)
            setattr(self, name, np.concatenate([values, room], axis=1))


@compiled
def _compare_and_add(attention, recent, steps, seen, scale, marked, keys, threshold, likeness, new):
    """One step of `check_and_add`: fills `likeness`, keeps in `new` (eligible ones at first) what repeats nothing, and remembers that."""
    rows, n = attention.shape
    for row in range(rows):
        squares, largest = np.float32(0.0), np.float32(0.0)
        for i in range(n):
            squares += attention[row, i] * attention[row, i]
            largest = max(largest, abs(attention[row, i]))
        unit = attention[row] / np.sqrt(squares)
        key = recent[row] if steps[row] >= CONTEXT_TOKENS else -1 - steps[row]
        for step in range(steps[row]):
            if marked[row, step]:
                context, cosine = seen[row, step], np.float32(0.0)
                for i in range(n):
                    cosine += np.float32(context[i]) * unit[i]
                likeness[row, step] = cosine * scale[row, step]
                if likeness[row, step] > threshold or keys[row, step] == key:
                    new[row] = False
        now = steps[row]
        marked[row, now], keys[row, now] = new[row], key
        scale[row, now] = largest / (np.float32(32767.0) * np.sqrt(squares))
        for i in range(n):
            seen[row, now, i] = np.int16(np.rint(unit[i] / scale[row, now]))
        steps[row] += 1


@compiled
def _find_drawn(candidates, likeness, tokens, threshold, drawn):
    for row in range(len(candidates)):
        for step in range(likeness.shape[1]):
            if likeness[row, step] > threshold:
                for k in range(candidates.shape[1]):
                    drawn[row, k] |= candidates[row, k] == tokens[row, step]


@compiled
def _record(drawn, tokens, steps, recent):
    for row in range(len(drawn)):
        tokens[row, steps[row] - 1] = drawn[row]
        recent[row] = ((recent[row] << BITS) | drawn[row]) & KEY


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
    """The same rule over finished texts: attention (B, T, rounds, slots), ids (B, T), valid (B, T) → (B, T) bool, True where new."""
    unit = F.normalize(attention.flatten(2), dim=-1).float().cpu().numpy()  # (B, T, n)
    keys, free = (values.cpu().numpy() for values in (context_keys(ids), valid))
    new = np.zeros(valid.shape, bool)
    for contexts, *of_row in zip(unit, keys, free, new, strict=True):
        for start in range(0, len(contexts), window):
            low, stop = max(0, start - window), start + window
            # A product of a matrix with itself: numpy computes half of it.
            _find_new(contexts[start:stop] @ contexts[low:stop].T, threshold, start, low, *of_row)
    return torch.from_numpy(new).to(valid.device)


@compiled
def _find_new(cosines, threshold, start, low, keys, free, new):
    """Whether a position counts depends on which earlier ones counted: one after the other, from `start` on. cosines[i, j] compares
    position start + i with low + j."""
    for i in range(len(cosines)):
        at = start + i
        if free[at]:
            repeated = False
            for j in range(low, at):
                repeated |= new[j] and (cosines[i, j - low] > threshold or keys[j] == keys[at])
            new[at] = not repeated
