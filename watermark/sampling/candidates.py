"""From logits to the candidates of the next token: temperature, top-k and top-p, for rows with settings of their own.

Everything after the choice of the largest logits happens in main memory, on any device: it is a few dozen numbers a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from watermark.compiled import compiled
from watermark.inference.likeliest import likeliest
from watermark.sampling.requests import SamplingSettings

NO_TOKEN = -1


@dataclass(frozen=True)
class BatchSettings:
    """Sampling settings of a batch, an entry for each row."""

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    width: int
    """Largest top-k of the batch: candidates kept per row."""

    @classmethod
    def stack(cls, settings: Sequence[SamplingSettings], vocab_size: int) -> BatchSettings:
        # Greedy decoding is the one-candidate case, whichever way it was asked for.
        top_k = [1 if s.temperature == 0 else min(s.top_k, vocab_size) for s in settings]
        temperature = np.array([s.temperature or 1.0 for s in settings], np.float32)
        return cls(temperature, np.array(top_k), np.array([s.top_p for s in settings]), max(top_k))


def select_candidates(logits: Tensor, settings: BatchSettings) -> tuple[Tensor, Tensor]:
    """logits (B, V) → what `candidates_of` makes of the largest of them. Only one top-k touches the whole vocabulary."""
    return candidates_of(*likeliest(logits, settings.width), settings)


def candidates_of(values: Tensor, ids: Tensor, settings: BatchSettings, barred: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """The largest logits, falling, and their ids, both (B, K or more) → K = `settings.width` candidate ids int64 (B, K) in rising order and
    their probabilities float32 (B, K), zero for those cut off; both on the CPU.

    `barred` (B, any number) are tokens that must not be drawn, or `NO_TOKEN`; for each of a row, one logit more has to be given than K.
    Order by id, not by rank: two candidates a rounding error apart would otherwise change places between batch shapes, and with them the
    token that a given random number draws.
    """
    ranked, falling = (np.ascontiguousarray(found.cpu().numpy()) for found in (ids, values.float()))
    shape = len(ranked), min(settings.width, ranked.shape[1])
    rising, probs = np.empty(shape, np.int64), np.empty(shape, np.float32)
    barred = np.empty((len(ranked), 0), np.int64) if barred is None else barred
    _weigh(falling, ranked, barred, settings.temperature, settings.top_k, settings.top_p, rising, probs)
    return torch.from_numpy(rising), torch.from_numpy(probs)


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse-CDF sampling: probs (B, K) and one uniform number in [0, 1) per row (B,) → indices (B,). Never a zero-probability one."""
    drawn = np.empty(len(probs), np.int64)
    _draw(np.ascontiguousarray(probs.cpu().numpy()), np.ascontiguousarray(uniforms.double().cpu().numpy()), drawn)
    return torch.from_numpy(drawn)


@compiled
def _weigh(values, ids, barred, temperature, top_k, top_p, rising, probs):
    """See `candidates_of`: fills `rising` and `probs`."""
    rows, width = rising.shape
    chosen, weights = np.empty(width, np.int64), np.empty(width)
    for row in range(rows):
        kept, total, largest = 0, 0.0, np.float32(0.0)
        for take_barred in (False, True):  # where there are too few others, with probability 0
            for rank in range(values.shape[1]):
                is_barred = False
                for k in range(barred.shape[1]):
                    is_barred |= ids[row, rank] == barred[row, k]
                if kept < width and is_barred == take_barred:
                    chosen[kept], weights[kept] = ids[row, rank], 0.0
                    if kept == 0:
                        largest = values[row, rank]
                    if not is_barred and kept < top_k[row]:
                        weights[kept] = np.exp((values[row, rank] - largest) / temperature[row])
                        total += weights[kept]
                    kept += 1
        before, share = 0.0, 0.0
        for rank in range(width):
            weight = weights[rank]
            if before >= top_p[row]:
                weights[rank] = 0.0
            else:
                share += weight
            before += weight / total
        order = np.argsort(chosen)
        for place in range(width):
            rising[row, place] = chosen[order[place]]
            probs[row, place] = weights[order[place]] / share


@compiled
def _draw(probs, uniforms, drawn):
    for row in range(len(probs)):
        total = 0.0
        for k in range(probs.shape[1]):
            total += probs[row, k]
        aim, reached, last = uniforms[row] * total, 0.0, 0
        for k in range(probs.shape[1]):
            if probs[row, k] > 0:
                last = k
                reached += probs[row, k]
                if reached > aim:
                    break
        drawn[row] = last  # the last one there is, where rounding leaves the sum short of the aim
