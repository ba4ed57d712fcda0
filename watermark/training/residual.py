"""The objective of the kinds that act inside the model: detection by the extractor after the channel, at a held cost in quality.

The layers from the first marked one on run again on the text's own context (teacher forcing), with fresh random signs for every text. At
every position a token is drawn from the marked distribution over the base model's likeliest candidates; what the extractor reads is the
drawn token's embedding, and the gradient is that of the softened draw (straight-through Gumbel-softmax, Jang et al., ICLR 2017).

The divergence from the base model is held at a target by a multiplier (dual ascent).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from watermark.embedding.conditioning import Conditioning
from watermark.inference.steering import resumed, steered
from watermark.inference.torch_lm import TorchLM
from watermark.pair import ResidualPair
from watermark.residual.extractor import shares
from watermark.training.channel import FOREIGN, apply_edits, draw_edits
from watermark.training.features import Shard
from watermark.training.upper_features import candidate_logits

TARGET_Z = 7.0
"""Detection beyond this many standard deviations earns next to nothing: effort goes to the texts that are hard to detect."""
SOFTNESS = 1.0
"""Temperature of the softened draw that the gradient sees."""
REWORDED = 0.3
"""Largest share of tokens that the unmarked model words anew, in half of the edited versions."""


@dataclass(frozen=True)
class UpperBatch:
    """Windows of B texts on the device of the pair; see `upper_features`."""

    ids: Tensor
    """(B, P+T)"""
    states: Tensor
    """(B, P+T-1, hidden)"""
    candidates: Tensor
    """(B, T, K)"""
    log_probs: Tensor
    """(B, T, K) of the base model, over the candidates alone."""


def upper_batch(shard: Shard, rows: Tensor, length: int, candidates: int, device: torch.device) -> UpperBatch:
    """`rows` of a shard cut to `length` target tokens and the `candidates` likeliest candidates."""
    beyond = shard["candidates"].shape[1] - length
    stop = shard["ids"].shape[1] - beyond
    return UpperBatch(
        ids=shard["ids"][rows, :stop].long().to(device),
        states=shard["states"][rows, : stop - 1].float().to(device),
        candidates=shard["candidates"][rows, :length, :candidates].long().to(device),
        log_probs=shard["logits"][rows, :length, :candidates].float().log_softmax(dim=-1).to(device),
    )


def marked_states(lm: TorchLM, pair: ResidualPair, batch: UpperBatch, signs: Tensor) -> Tensor:
    """Last hidden states (B, T, hidden) at the target positions, marked with `signs` (B, n)."""
    conditioning = Conditioning(signs, torch.ones(len(signs), device=signs.device))
    upper, length = lm.upper(pair.config.first), batch.candidates.shape[1]
    # Half precision is twice as fast on CPUs that have it; the weights that are trained stay in float32.
    with torch.autocast(signs.device.type, dtype=torch.bfloat16), steered(pair.embedder.intervention(conditioning)), resumed(batch.states):
        output = upper(input_ids=batch.ids[:, :-1], use_cache=False)
    return output.last_hidden_state[:, -length:].float()


def divergence(log_probs: Tensor, base: Tensor) -> Tensor:
    """KL(marked ‖ base) in nats at every position."""
    return (log_probs.exp() * (log_probs - base)).sum(dim=-1)


def straight_through(log_probs: Tensor, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A draw from log_probs (…, K): its embedding among rows (…, K, E) with the gradient of the softened draw, and its index (…)."""
    noise = torch.rand(log_probs.shape, generator=generator, device=log_probs.device).clamp(1e-9, 1 - 1e-7)
    scores = log_probs - (-noise.log()).log()
    drawn = scores.argmax(dim=-1)
    soft = (torch.softmax(scores / SOFTNESS, dim=-1).unsqueeze(-2) @ rows).squeeze(-2)
    hard = rows.gather(-2, drawn[..., None, None].expand(*drawn.shape, 1, rows.shape[-1])).squeeze(-2)
    return hard.detach() + soft - soft.detach(), drawn


@dataclass(frozen=True)
class Edited:
    """A version of every text: places to take tokens from, and tokens that were never marked."""

    origin: Tensor
    """(B, T') index of the original token, or FOREIGN."""
    ids: Tensor
    """(B, T') foreign tokens; any value elsewhere."""
    valid: Tensor
    """(B, T')"""


def edited_versions(batch: UpperBatch, rng: np.random.Generator) -> Edited:
    """Random edits of token places, and in half of the texts tokens that the *unmarked* model draws anew where they stand.

    The latter is a stand-in for a paraphrase: it exchanges words for others that fit, and neither moves nor restructures anything.
    """
    texts, length = batch.candidates.shape[:2]
    pool = batch.ids.cpu().numpy().reshape(-1)
    versions = []
    for row in range(texts):
        edited = apply_edits(np.arange(length), draw_edits(rng), pool, rng)
        ids, origin = edited.ids, edited.origin
        if rng.random() < 0.5:
            again = (rng.random(len(ids)) < rng.uniform(0, REWORDED)) & (origin != FOREIGN)
            places = torch.from_numpy(origin[again])
            weights = batch.log_probs[row].cpu()[places].exp().numpy()
            drawn = (weights.cumsum(axis=1) < rng.random((len(weights), 1))).sum(axis=1).clip(max=weights.shape[1] - 1)
            ids, origin = ids.copy(), origin.copy()
            ids[again] = batch.candidates[row].cpu()[places].gather(1, torch.from_numpy(drawn)[:, None])[:, 0].numpy()
            origin[again] = FOREIGN
        versions.append((ids, origin))
    longest = max(1, *(len(ids) for ids, _ in versions))
    ids, origin = np.zeros((texts, longest), dtype=np.int64), np.full((texts, longest), FOREIGN)
    valid = np.zeros((texts, longest), dtype=bool)
    for row, (found, places) in enumerate(versions):
        ids[row, : len(found)], origin[row, : len(found)], valid[row, : len(found)] = found, places, True
    device = batch.ids.device
    return Edited(torch.from_numpy(origin).to(device), torch.from_numpy(ids).to(device), torch.from_numpy(valid).to(device))


def apply_versions(lm: TorchLM, embeddings: Tensor, ids: Tensor, edited: Edited) -> tuple[Tensor, Tensor]:
    """Embeddings (B, T, E) and ids (B, T) of the drawn tokens → (B, T', E) and (B, T') of the edited text."""
    origin = edited.origin.clamp(min=0)
    places = origin.unsqueeze(-1).expand(-1, -1, embeddings.shape[-1])
    foreign = edited.origin == FOREIGN
    found = torch.where(foreign.unsqueeze(-1), lm.embed(edited.ids).float(), embeddings.gather(1, places))
    return found, torch.where(foreign, edited.ids, ids.gather(1, origin))


def z_scores(evidence: Tensor, signs: Tensor) -> Tensor:
    """Evidence (B, T, n) and signs (B, n) → z (B,) of a Rademacher sum with these weights."""
    total = evidence.sum(dim=1)
    return (total * signs).sum(dim=-1) / total.norm(dim=-1).clamp(min=1e-6)


@dataclass
class Read:
    """One pass of a batch through embedder, channel and extractor."""

    divergence: Tensor
    """(B, T) nats."""
    clean: Tensor
    """(B, T, n) evidence."""
    edited: Tensor
    """(B, T', n)"""


def read_marked(
    lm: TorchLM, pair: ResidualPair, batch: UpperBatch, signs: Tensor, rng: np.random.Generator, generator: torch.Generator
) -> Read:
    """Mark, draw, edit and read."""
    log_probs = candidate_logits(lm, marked_states(lm, pair, batch, signs), batch.candidates).log_softmax(dim=-1)
    embeddings, drawn = straight_through(log_probs, lm.embed(batch.candidates).float(), generator)
    ids = batch.candidates.gather(2, drawn.unsqueeze(-1))[..., 0]
    edited = edited_versions(batch, rng)
    others, edited_ids = apply_versions(lm, embeddings, ids, edited)
    return Read(
        divergence(log_probs, batch.log_probs),
        pair.extractor(embeddings, shares(ids, torch.ones_like(ids, dtype=torch.bool))),
        pair.extractor(others, shares(edited_ids, edited.valid)),
    )


def bit_accuracy(evidence: Tensor, signs: Tensor) -> Tensor:
    """Share of signs that the evidence (B, T, n) agrees with."""
    return ((evidence.sum(dim=1) * signs) > 0).float().mean()
