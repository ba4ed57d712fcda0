"""Cross-attention from the residual stream to the slots of a message.

Slot i has one embedding for each value of its sign; keys and values are made of it. A message belongs to the call: it is an argument of
`forward`, here and in everything that holds these modules.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MessageSlots(nn.Module):
    """Signs (B, n) → slot embeddings (B, n, width)."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        # Orthogonal as far as there is room: what one slot's sign does must not look like another's.
        common, odd = 0.1 * torch.randn(n, width), nn.init.orthogonal_(torch.empty(n, width)) * max(n, width) ** 0.5
        self.embeddings = nn.Parameter(torch.stack([common - odd, common + odd], dim=1))

    def forward(self, signs: Tensor) -> Tensor:
        # Not an index: a sign of 0, as tests and averages over messages use it, is half of each.
        share = ((1 + signs) / 2).unsqueeze(-1)
        return self.embeddings[:, 0] + share * (self.embeddings[:, 1] - self.embeddings[:, 0])


class SlotCrossAttention(nn.Module):
    """Queries from states (B, T, hidden), keys and values from slots (B, n, width), several heads → (B, T, hidden).

    Slots may also be a table that is no message (`SubstitutedAttention`).
    """

    def __init__(self, hidden_size: int, width: int, heads: int, key_size: int) -> None:
        super().__init__()
        self.heads, self.key_size = heads, key_size
        self.query = nn.Linear(hidden_size, heads * key_size)
        self.key = nn.Linear(width, heads * key_size, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, hidden_size, bias=False)
        nn.init.orthogonal_(self.value.weight)
        nn.init.normal_(self.out.weight, std=width**-0.5)
        # Nearly the same attention to all slots at first, and not quite the same at all positions.
        nn.init.normal_(self.query.weight, std=0.5 * hidden_size**-0.5)

    def forward(self, states: Tensor, slots: Tensor) -> Tensor:
        query = self._split(self.query(states))
        key, value = self._split(self.key(slots)), self._split(self.value(slots))
        # Root of the number of slots: a mean of random signs is smaller the more there are.
        found = F.scaled_dot_product_attention(query, key, value) * slots.shape[1] ** 0.5
        return self.out(found.transpose(1, 2).flatten(2))

    def direction(self, slots: Tensor) -> Tensor:
        """What each slot adds (n, hidden) where all are attended alike: slots (n, width)."""
        return self.out(self.value(slots)) / len(slots) ** 0.5

    def _split(self, values: Tensor) -> Tensor:
        return values.unflatten(2, (self.heads, -1)).transpose(1, 2)


REACH = 0.05
"""Size of what an open gate lets through at first, as a share of the stream's. A tenth of a stream is a lot: at the last layer an open
gate at this setting already costs about a nat per token."""


def scale_free(states: Tensor) -> tuple[Tensor, Tensor]:
    """States of unit root mean square, and what they were divided by: streams of other models and layers differ by orders of magnitude."""
    scale = states.detach().float().square().mean(dim=-1, keepdim=True).add(1e-6).sqrt()
    return (states / scale).clamp(-8.0, 8.0), scale


class GatedBlock(nn.Module):
    """Cross-attention and a small feed-forward network, each behind a tanh gate (Alayrac et al., Flamingo, NeurIPS 2022).

    Both add to the stream in proportion to its own size at the position.
    """

    def __init__(self, hidden_size: int, width: int, heads: int, key_size: int, gate: float) -> None:
        super().__init__()
        self.message = SlotCrossAttention(hidden_size, width, heads, key_size)
        first, last = nn.Linear(hidden_size, width), nn.Linear(width, hidden_size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.feed_forward = nn.Sequential(first, nn.GELU(), last)
        self.message_gate = nn.Parameter(torch.tensor(float(gate)))
        self.feed_forward_gate = nn.Parameter(torch.tensor(float(gate)))

    def forward(self, states: Tensor, slots: Tensor) -> Tensor:
        """What is to be added to states (B, T, hidden)."""
        relative, scale = scale_free(states)
        attended = torch.tanh(self.message_gate) * self.message(relative, slots)
        fed = torch.tanh(self.feed_forward_gate) * self.feed_forward(relative + attended)
        return REACH * (attended + fed) * scale


class SubstitutedAttention(nn.Module):
    """Stands in for the self-attention of a decoder layer: it sees the position's own state and the message, and no other position.

    What the layer needs in order to go on as before comes from a memory of slots that are the same for every message, and is fitted to
    what self-attention found; the message adds to it in proportion.
    """

    def __init__(self, hidden_size: int, width: int, heads: int, key_size: int, memory: int, gate: float) -> None:
        super().__init__()
        self.memory = nn.Parameter(torch.randn(memory, width))
        self.recollection = SlotCrossAttention(hidden_size, width, heads, key_size)
        self.local = nn.Linear(hidden_size, hidden_size)
        self.message = SlotCrossAttention(hidden_size, width, heads, key_size)
        self.gate = nn.Parameter(torch.tensor(float(gate)))

    def recollect(self, inputs: Tensor) -> Tensor:
        """What self-attention would find, as far as the position itself tells: (B, T, hidden) both."""
        relative, _ = scale_free(inputs)
        return self.local(relative) + self.recollection(relative, self.memory.expand(len(inputs), -1, -1))

    def forward(self, inputs: Tensor, slots: Tensor) -> Tensor:
        relative, _ = scale_free(inputs)
        recalled = self.recollect(inputs)
        _, scale = scale_free(recalled)
        return recalled + torch.tanh(self.gate) * scale * self.message(relative, slots)
