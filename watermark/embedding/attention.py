"""Cross-attention from the language model's hidden state to the message slots.

Shared by embedder and extractor: both must see the same slots for the same context, so they are one module with one set
of weights, and reading is a matched filter of writing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from watermark.config import WatermarkConfig

CLIP = 5.0


class StateNormaliser(nn.Module):
    """Hidden states (…, layers, hidden) → features (…, layers * hidden) of comparable scale.

    Residual streams carry a few outlier dimensions hundreds of times larger than the rest, which would drown a projection.
    Each dimension is standardised by its mean and deviation over the training text, clipped, and each layer normalised.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: WatermarkConfig) -> None:
        super().__init__()
        shape = (len(config.query_layers), config.hidden_size)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))

    def fit(self, states: Tensor) -> None:
        """Set mean and deviation from a sample (N, layers, hidden)."""
        self.mean.copy_(states.float().mean(dim=0))
        self.deviation.copy_(states.float().std(dim=0).clamp(min=1e-6))

    def forward(self, states: Tensor) -> Tensor:
        standard = ((states.float() - self.mean) / self.deviation).clamp(-CLIP, CLIP)
        return F.layer_norm(standard, standard.shape[-1:]).flatten(-2)


class SlotAttention(nn.Module):
    """Per round l: a_l = softmax(q_l(h) · k_l) over the slots of that round.

    The values of this cross-attention are `s_i · κ_i(c)`: the codeword's sign times the token code, so they belong to the
    call (`Embedder`, `Extractor`), never to the module.
    """

    def __init__(self, config: WatermarkConfig) -> None:
        super().__init__()
        self.rounds, self.slots, self.key_size = config.rounds, config.slots, config.key_size
        self.hidden = nn.Linear(len(config.query_layers) * config.hidden_size, config.query_width)
        self.query = nn.Linear(config.query_width, config.rounds * config.key_size)
        self.keys = nn.Parameter(torch.randn(config.rounds, config.slots, config.key_size))
        self.log_sharpness = nn.Parameter(torch.tensor(3.2))

    def forward(self, features: Tensor) -> Tensor:
        """Features (…, layers * hidden) → attention (…, rounds, slots), summing to 1 over the slots of each round."""
        query = self.query(F.gelu(self.hidden(features))).unflatten(-1, (self.rounds, self.key_size))
        # Cosines times a learned sharpness: no query wins by its length, which keeps slot use balanced.
        logits = torch.einsum("...mk,msk->...ms", F.normalize(query, dim=-1), F.normalize(self.keys, dim=-1))
        return torch.softmax(logits * self.log_sharpness.exp(), dim=-1)
