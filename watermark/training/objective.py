"""The training objective: how sure a verifier would be, after the channel, of a text that the embedder marked.

Everything is differentiable in the weights of both halves. Tokens are drawn in place at every position of a human text from
the marked distribution (teacher forcing), with fresh random signs for every text; the extractor reads the edited version.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from watermark.embedding.repeats import first_occurrences
from watermark.embedding.reweighting import tournament
from watermark.extraction.reader import Embed
from watermark.pair import WatermarkPair
from watermark.training.channel import FOREIGN


@dataclass(frozen=True)
class Batch:
    """Features of B texts with V edited versions each, on the device of the pair."""

    states: Tensor
    """(B, T, layers, hidden) in the original context, prompt included."""
    ids: Tensor
    """(B, T) the text's own tokens."""
    candidates: Tensor
    """(B, T, K) token ids."""
    probs: Tensor
    """(B, T, K), summing to 1."""
    edited_states: Tensor
    """(B, V, T', layers, hidden) in the edited, prompt-less context."""
    edited_ids: Tensor
    """(B, V, T'), negative = padding."""
    origin: Tensor
    """(B, V, T'), index into T or FOREIGN."""


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term of the loss, under the name it is logged by."""

    detection: float = 1.0
    balance: float = 0.1
    repeats: float = 0.3


TARGET_Z = 7.0
"""Detection beyond this many standard deviations earns next to nothing: effort goes to the texts that are hard to detect."""

MARGIN = 0.15
"""Cosine below the repetition threshold at which a context begins to be pushed away from its likest predecessor."""


def _mark(pair: WatermarkPair, attention: Tensor, codes: Tensor, batch: Batch, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Marked distributions (B, T, K) and which positions were marked (B, T)."""
    texts, length = batch.probs.shape[:2]
    flat_signs = signs[:, None].expand(-1, length, -1).reshape(texts * length, -1)
    scores = pair.embedder.scores(attention.flatten(0, 1), flat_signs, codes.flatten(0, 1))
    marked = first_occurrences(attention.detach(), batch.ids, torch.ones_like(batch.ids, dtype=torch.bool), pair.config.repeat_threshold)
    probs = tournament(batch.probs.flatten(0, 1), scores).unflatten(0, (texts, length))
    return torch.where(marked.unsqueeze(-1), probs, batch.probs), marked


def _balance(attention: Tensor, valid: Tensor) -> Tensor:
    """Mean over texts and rounds of the divergence of slot use *within a text* from uniform, in nats. Balance over a batch
    alone lets the attention become a function of the text: stable, and the same at every position."""
    use = (attention * valid[..., None, None]).sum(dim=1) / valid.sum(dim=1)[:, None, None]
    return (use * (use * use.shape[-1]).clamp(min=1e-9).log()).sum(dim=-1).mean()


def _repeats(attention: Tensor, threshold: float) -> Tensor:
    """How far each position's likest earlier context comes within MARGIN of counting as a repetition (0 … 1, mean).

    What is masked is lost without a gradient; this pushes contexts apart before they get there.
    """
    unit = F.normalize(attention.flatten(2), dim=-1)
    likeness = torch.einsum("bin,bjn->bij", unit, unit)
    earlier = torch.ones_like(likeness[0]).tril(-1).bool()
    likest = likeness.masked_fill(~earlier, 0.0).amax(dim=-1)
    return F.relu((likest - threshold + MARGIN) / MARGIN).mean()


def detection_z(
    pair: WatermarkPair, embed: Embed, batch: Batch, signs: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Expected z of every edited version (B, V), the attention (B, T, m, S), and the share of marked positions.

    z = E[S] / |e|: S in expectation over the marked distributions, the noise |e| of one drawn text, foreign tokens included.
    """
    device = batch.probs.device
    n = signs.shape[1]
    extractor = pair.extractor
    attention = pair.attention(pair.normaliser(batch.states))
    codes = pair.codes(batch.candidates)  # (B, T, K, n)
    marked_probs, marked = _mark(pair, attention, codes, batch, signs)
    drawn = torch.multinomial(marked_probs.detach().flatten(0, 1), 1, generator=generator).view(marked.shape)
    surprise = extractor.reader.surprise(embed(batch.candidates))  # (B, T, K, …)
    drawn_ids = batch.candidates.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
    versions = []
    for v in range(batch.origin.shape[1]):
        features = pair.normaliser(batch.edited_states[:, v])
        a = pair.attention(features).flatten(-2)  # (B, T', n)
        reading = extractor.reader.read(features)
        centre, context = extractor.reader.centre(reading), extractor.reader.context(reading)
        valid = batch.edited_ids[:, v] >= 0
        counted = first_occurrences(
            a.detach().unflatten(-1, (pair.config.rounds, pair.config.slots)), batch.edited_ids[:, v], valid, pair.config.repeat_threshold
        )
        origin = batch.origin[:, v].long()
        ours = counted & (origin != FOREIGN)
        at = origin.clamp(min=0)
        # Evidence of one drawn text: our tokens re-drawn from the marked distribution, foreign ones as they stand.
        ids = torch.where(ours, drawn_ids.gather(1, at), batch.edited_ids[:, v].long().clamp(min=0))
        weight = extractor.reader.reliability(context, extractor.reader.surprise(embed(ids))) * counted
        evidence = (weight.unsqueeze(-1) * a * (pair.codes(ids) - centre)).sum(dim=1)  # (B, n)
        # Expected statistic: each surviving position meets the distribution that was sampled from there.
        readout = a * signs[:, None]  # (B, T', n)
        back = torch.full(marked.shape, -1, device=device).scatter_reduce(
            1, at, torch.where(ours, torch.arange(at.shape[1], device=device).expand_as(at), -1), "amax"
        )  # (B, T): where each original position went, -1 if lost
        kept = back >= 0
        index = back.clamp(min=0)
        moved = readout.gather(1, index.unsqueeze(-1).expand(-1, -1, n))  # (B, T, n)
        offset = (readout * centre).sum(dim=-1).gather(1, index)  # (B, T)
        score = torch.einsum("btkn,btn->btk", codes, moved) - offset.unsqueeze(-1)
        moved_context = context.gather(1, index.unsqueeze(-1).expand(-1, -1, context.shape[-1])).unsqueeze(2)
        trust = extractor.reader.reliability(moved_context, surprise)
        expected = ((marked_probs * trust * score).sum(dim=-1) * kept).sum(dim=-1)  # (B,)
        versions.append(expected / evidence.norm(dim=-1).clamp(min=1e-6))
    return torch.stack(versions, dim=1), attention, marked.float().mean()


def losses(
    pair: WatermarkPair, embed: Embed, batch: Batch, weights: LossWeights, generator: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Weighted loss terms by name (their sum is minimised) and figures for the curves."""
    texts = batch.probs.shape[0]
    signs = torch.randint(0, 2, (texts, pair.config.n), generator=generator, device=batch.probs.device).float() * 2 - 1
    z, attention, marked = detection_z(pair, embed, batch, signs, generator)
    valid = torch.ones_like(attention[..., 0, 0])
    terms = {
        "detection": F.softplus(TARGET_Z - z).mean() * weights.detection,
        "balance": _balance(attention, valid) * weights.balance,
        "repeats": _repeats(attention, pair.config.repeat_threshold) * weights.repeats,
    }
    z = z.detach()
    figures = {"z_promptless": float(z[:, 0].mean()), "z_edited": float(z[:, 1:].mean()), "marked": float(marked)}
    return terms, figures
