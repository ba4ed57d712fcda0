"""Where kind `substituted` begins: the replaced layer imitated by regression, and the mark aimed through what comes after it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from watermark.inference.steering import Intervention, resumed, steered
from watermark.inference.torch_lm import TorchLM
from watermark.pair import ResidualPair
from watermark.residual.attention import SubstitutedAttention, scale_free
from watermark.training.features import Shard
from watermark.training.residual import divergence, marked_states, upper_batch
from watermark.training.upper_features import candidate_logits

TEXTS = 16
"""Of every shard; a few thousand tokens in all determine the regression."""
RIDGE = 0.01
"""Of the mean variance of an input."""
NUDGE = 0.3
"""Size of the nudges by which the response is found, as a share of the attention's output."""
LOUDEST = 64.0
"""Where the search for the mark's size ends: behind a norm, as some architectures have it, nothing grows any more."""
HALVINGS = 12
REGULARISATION = 0.003
"""Of the mean squared response: directions that hardly arrive are not forced."""


@dataclass
class Recorded:
    """An intervention that changes nothing and keeps what self-attention got and found."""

    inputs: dict[int, list[Tensor]] = field(default_factory=dict)
    outputs: dict[int, list[Tensor]] = field(default_factory=dict)

    def after_layer(self, layer: int, states: Tensor) -> Tensor:
        return states

    def after_attention(self, layer: int, inputs: Tensor, outputs: Tensor) -> Tensor:
        self.inputs.setdefault(layer, []).append(inputs.flatten(0, 1).float())
        self.outputs.setdefault(layer, []).append(outputs.flatten(0, 1).float())
        return outputs


@dataclass
class Nudged:
    """The replaced layers, unmarked, and at one of them a constant push for every row."""

    blocks: dict[int, SubstitutedAttention]
    layer: int
    push: Tensor
    """(B, 1, hidden), as a share of the attention's output."""

    def after_layer(self, layer: int, states: Tensor) -> Tensor:
        return states

    def after_attention(self, layer: int, inputs: Tensor, outputs: Tensor) -> Tensor:
        if layer not in self.blocks:
            return outputs
        recalled = self.blocks[layer].recollect(inputs)
        return recalled + self.push * scale_free(recalled)[1] if layer == self.layer else recalled


def replaced(pair: ResidualPair) -> dict[int, SubstitutedAttention]:
    """The blocks that stand in for self-attention, by layer (from 1)."""
    found = {layer: pair.embedder.block(layer) for layer in pair.config.layers}
    return {layer: block for layer, block in found.items() if isinstance(block, SubstitutedAttention)}


def _last_states(lm: TorchLM, pair: ResidualPair, states: Tensor, intervention: Intervention) -> Tensor:
    ids = torch.zeros(states.shape[:2], dtype=torch.long, device=lm.device)
    with steered(intervention), resumed(states):
        return lm.upper(pair.config.first)(input_ids=ids, use_cache=False).last_hidden_state.float()


@torch.no_grad()
def imitate(lm: TorchLM, pair: ResidualPair, shards: list[Shard]) -> dict[int, float]:
    """Fit each block's view of its own position to what self-attention found on corpus text, by least squares of the *relative* error
    (so that no position counts more for its size). The error left at each layer, as a share of the output's mean square."""
    record = Recorded()
    for shard in shards:
        _last_states(lm, pair, shard["states"][:TEXTS].float().to(lm.device), record)
    left = {}
    for layer, block in replaced(pair).items():
        relative, _ = scale_free(torch.cat(record.inputs[layer]))
        wanted = torch.cat(record.outputs[layer])
        known = torch.cat([relative, torch.ones_like(relative[:, :1])], dim=1).double()
        weighted = known / wanted.double().square().mean(dim=1, keepdim=True).clamp(min=1e-12)
        normal = weighted.T @ known
        normal.diagonal().add_(RIDGE * normal.diagonal().mean())
        solution = torch.linalg.solve(normal, weighted.T @ wanted.double())
        block.local.weight.copy_(solution[:-1].T)
        block.local.bias.copy_(solution[-1])
        torch.nn.init.zeros_(block.recollection.out.weight)  # the memory starts with nothing to say, and learns what is left
        missed = (known @ solution - wanted).square().mean(dim=1) / wanted.double().square().mean(dim=1).clamp(min=1e-12)
        left[layer] = float(missed.mean())
    return left


@torch.no_grad()
def response(lm: TorchLM, pair: ResidualPair, shard: Shard) -> Tensor:
    """What a push at the last replaced layer's attention does to what the head reads: (hidden, hidden), one row per pushed dimension."""
    blocks = replaced(pair)
    layer = max(blocks)
    states = shard["states"][:1].float().to(lm.device)
    plain = _last_states(lm, pair, states, Nudged(blocks, layer, torch.zeros(1, 1, lm.hidden_size, device=lm.device)))
    rows = []
    for pushes in (NUDGE * torch.eye(lm.hidden_size, device=lm.device)).split(TEXTS):
        pushed = _last_states(lm, pair, states.expand(len(pushes), -1, -1), Nudged(blocks, layer, pushes.unsqueeze(1)))
        rows.append((pushed - plain).mean(dim=1) / NUDGE)
    return torch.cat(rows)


@torch.no_grad()
def aim(lm: TorchLM, pair: ResidualPair, shard: Shard, wanted: Tensor, target: float, candidates: int) -> Tensor:
    """Let the mark push so that what the head reads moves in the span of `wanted` (hidden, width), at a divergence of `target`.

    Returns what each slot's sign then adds to what the head reads (n, hidden), up to a common factor.
    """
    arrives = response(lm, pair, shard)
    normal = arrives @ arrives.T
    normal.diagonal().add_(REGULARISATION * normal.diagonal().mean())
    pair.embedder.aim(torch.linalg.solve(normal, arrives @ wanted))
    out = replaced(pair)[max(pair.config.layers)].message.out
    whole, low, high = out.weight.clone(), 0.0, 1.0
    generator = torch.Generator(lm.device).manual_seed(0)
    batch = upper_batch(shard, torch.arange(min(TEXTS, len(shard["ids"]))), shard["candidates"].shape[1], candidates, lm.device)
    signs = torch.randint(0, 2, (len(batch.ids), pair.config.n), generator=generator, device=lm.device).float() * 2 - 1

    def cost(factor: float) -> float:
        out.weight.copy_(whole * factor)
        log_probs = candidate_logits(lm, marked_states(lm, pair, batch, signs), batch.candidates).log_softmax(dim=-1)
        return float(divergence(log_probs, batch.log_probs).mean())

    while cost(high) < target and high < LOUDEST:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) < target else (low, middle)
    cost(low)
    return pair.embedder.directions() @ arrives
