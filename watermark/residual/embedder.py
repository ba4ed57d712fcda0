"""The embedders that act inside the model: gated blocks in the residual stream, or a replaced self-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from watermark.config import ResidualConfig
from watermark.embedding.conditioning import Conditioning
from watermark.residual.attention import REACH, GatedBlock, MessageSlots, SlotCrossAttention, SubstitutedAttention

Block = GatedBlock | SubstitutedAttention


class ResidualEmbedder(nn.Module):
    """One block for each of the layers in the configuration, all of them reading the same slots."""

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.slots = MessageSlots(config.signs, config.slot_width)
        self.blocks = nn.ModuleDict({str(layer): _block(config) for layer in config.layers})

    def block(self, layer: int) -> Block | None:
        """The one that acts at decoder layer `layer` (from 1)."""
        found: Any = dict(self.blocks.items()).get(str(layer))
        return found

    @torch.no_grad()
    def aim(self, basis: Tensor) -> None:
        """Let the last block add what lies in the span of `basis` (hidden, width), and the others nothing yet.

        A basis that changes the logits by one for a coordinate of one gives an open gate a cost of about a quarter of a nat.
        """
        *others, last = self._message_attentions()
        for attention in others:
            nn.init.zeros_(attention.out.weight)
        last.out.weight.copy_(basis * (0.7 / REACH / basis.shape[1] ** 0.5))

    def directions(self) -> Tensor:
        """What each slot's sign adds to the last hidden state (n, hidden) at first, up to a common factor."""
        odd = (self.slots.embeddings[:, 1] - self.slots.embeddings[:, 0]) / 2
        return self._message_attentions()[-1].direction(odd)

    def _message_attentions(self) -> list[SlotCrossAttention]:
        blocks: list[Any] = list(self.blocks.values())
        return [block.message for block in blocks]

    def intervention(self, conditioning: Conditioning) -> MarkedCall:
        """How a forward pass of the base model is marked; for `watermark.inference.steering`."""
        return MarkedCall(self, self.slots(conditioning.signs), conditioning.strength[:, None, None])


@dataclass(frozen=True)
class MarkedCall:
    """The message of one call, row by row; see `Intervention`."""

    embedder: ResidualEmbedder
    slots: Tensor
    """(B, n, width)"""
    strength: Tensor
    """(B, 1, 1)"""

    def after_layer(self, layer: int, states: Tensor) -> Tensor:
        block = self.embedder.block(layer)
        if not isinstance(block, GatedBlock):
            return states
        return self._mixed(states, states + block(states, self.slots).to(states.dtype))

    def after_attention(self, layer: int, inputs: Tensor, outputs: Tensor) -> Tensor:
        block = self.embedder.block(layer)
        if not isinstance(block, SubstitutedAttention):
            return outputs
        return self._mixed(outputs, block(inputs, self.slots).to(outputs.dtype))

    def _mixed(self, plain: Tensor, marked: Tensor) -> Tensor:
        # A choice at either end: whole numbers of rounding errors would else come between an unmarked row and the base model.
        between = plain + self.strength.to(plain.dtype) * (marked - plain)
        return torch.where(self.strength == 0, plain, torch.where(self.strength == 1, marked, between))


def _block(config: ResidualConfig) -> Block:
    sizes = config.hidden_size, config.slot_width, config.heads, config.key_size
    return GatedBlock(*sizes, config.gate) if config.kind == "gated" else SubstitutedAttention(*sizes, config.memory, config.gate)
