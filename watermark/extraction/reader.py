"""The extractor's own network: what to expect at a position, and how much to trust it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from watermark.config import WatermarkConfig

AFFINITY = 64

Embed = Callable[[Tensor], Tensor]
"""Rows of the language model's embedding table for token ids: (…) → (…, hidden)."""


class Reader(nn.Module):
    """Centring c(h) and reliability w(h, y) of a token's evidence.

    The embedder can only steer where the model hesitates. `expected` estimates the mean code under the model's own
    prediction (a verifier does not run the model's upper layers); `reliability` learns how surprising token y is after h:
    a token that had to come carries noise and no mark. Neither sees the codeword, so p-values stay exact.
    """

    def __init__(self, config: WatermarkConfig, embedding_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(len(config.query_layers) * config.hidden_size, config.reader_width)
        self.expected = nn.Linear(config.reader_width, config.n)
        self.context = nn.Linear(config.reader_width, AFFINITY + 1)
        self.token = nn.Linear(embedding_size, AFFINITY)
        # Starts as the plain matched filter: nothing expected, every token trusted alike.
        nn.init.zeros_(self.expected.weight)
        nn.init.zeros_(self.expected.bias)
        nn.init.zeros_(self.context.weight)
        nn.init.zeros_(self.context.bias)

    def read(self, features: Tensor) -> Tensor:
        """Features (…, layers * hidden) → (…, reader_width), shared by `centre` and `context`."""
        return F.gelu(self.hidden(features))

    def centre(self, reading: Tensor) -> Tensor:
        """Expected code (…, n) at each position."""
        return torch.tanh(self.expected(reading))

    def surprise(self, embeddings: Tensor) -> Tensor:
        """The token's side of its reliability: embeddings (…, E) → (…, AFFINITY)."""
        return self.token(F.layer_norm(embeddings.float(), embeddings.shape[-1:]))

    def reliability(self, context: Tensor, surprise: Tensor) -> Tensor:
        """Weight ≥ 0 of each token, 1 before training: `context` (…, AFFINITY + 1) and surprise (…, AFFINITY), broadcast → (…)."""
        affinity = (context[..., :AFFINITY] * surprise).sum(dim=-1) * AFFINITY**-0.5
        return F.softplus(affinity + context[..., AFFINITY] + 0.5413)
