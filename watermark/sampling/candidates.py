"""From logits to the candidates of the next token: temperature, top-k and top-p, for rows with settings of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from watermark.inference.likeliest import likeliest
from watermark.sampling.requests import SamplingSettings


@dataclass(frozen=True)
class BatchSettings:
    """Sampling settings of a batch as tensors of shape (B, 1)."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    width: int
    """Largest top-k of the batch: candidates kept per row."""

    @classmethod
    def stack(cls, settings: Sequence[SamplingSettings], vocab_size: int, device: torch.device) -> BatchSettings:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, device=device).unsqueeze(1)

        # Greedy decoding is the one-candidate case, whichever way it was asked for.
        top_k = [1 if s.temperature == 0 else min(s.top_k, vocab_size) for s in settings]
        temperature = [s.temperature or 1.0 for s in settings]
        return cls(column(temperature), column([float(k) for k in top_k]), column([s.top_p for s in settings]), max(top_k))


def select_candidates(logits: Tensor, settings: BatchSettings) -> tuple[Tensor, Tensor]:
    """logits (B, V) → what `candidates_of` makes of the largest of them. Only one top-k touches the whole vocabulary."""
    return candidates_of(*likeliest(logits, settings.width), settings)


def candidates_of(values: Tensor, ids: Tensor, settings: BatchSettings) -> tuple[Tensor, Tensor]:
    """The K = `settings.width` largest logits (B, K), falling, and their ids → candidate ids (B, K) in rising order and their probabilities
    (B, K), zero for those cut off.

    Order by id, not by rank: two candidates a rounding error apart would otherwise change places between batch shapes, and with them the
    token that a given random number draws.
    """
    values = values.float() / settings.temperature
    rank = torch.arange(settings.width, device=values.device)
    probs = torch.softmax(values.masked_fill(rank >= settings.top_k, -torch.inf), dim=-1)
    before = probs.cumsum(dim=-1) - probs
    probs = probs.masked_fill((before >= settings.top_p) & (rank > 0), 0.0)
    probs = probs / probs.sum(dim=-1, keepdim=True)
    ids, order = ids.sort(dim=-1)
    return ids, probs.gather(-1, order)


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse-CDF sampling: probs (B, K) and one uniform number in [0, 1) per row (B,) → indices (B,). Never a zero-probability one."""
    cumulative = probs.double().cumsum(dim=-1)
    return (cumulative <= uniforms.double().unsqueeze(-1) * cumulative[:, -1:]).sum(dim=-1).clamp(max=probs.shape[-1] - 1)
