"""The extractor: from a text's hidden states and tokens to soft evidence for every sign of a codeword."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from watermark.config import WatermarkConfig
from watermark.embedding.attention import SlotAttention, StateNormaliser
from watermark.embedding.repeats import first_occurrences
from watermark.embedding.token_codes import TokenCodes
from watermark.extraction.reader import Reader


@dataclass(frozen=True)
class Evidence:
    """Evidence of one text, additive over its tokens."""

    per_token: np.ndarray
    """float16 (T, n): 2 KiB a token of 1,024 signs; its rounding is a thousandth of what the evidence itself varies by."""
    offsets: list[tuple[int, int]]
    """Characters of each token in the text, length T."""

    @property
    def tokens(self) -> int:
        return len(self.per_token)

    def total(self) -> np.ndarray:
        """float64 (n,): evidence of the whole text."""
        return self.per_token.sum(axis=0, dtype=np.float64)


class Extractor(nn.Module):
    """Re-computes the attention that the embedder had at each position and accumulates signed codes per slot:

    e_i = Σ_t w(h_{t-1}, y_t) · a_i(h_{t-1}) · (κ_i(y_t) − c_i(h_{t-1})),

    over the tokens whose context is not a repetition. Nothing here depends on a key.
    """

    embeddings: Tensor

    def __init__(
        self, config: WatermarkConfig, normaliser: StateNormaliser, attention: SlotAttention, codes: TokenCodes, embeddings: Tensor
    ) -> None:
        super().__init__()
        self.repeat_threshold = config.repeat_threshold
        self.normaliser, self.attention, self.codes = normaliser, attention, codes
        self.reader = Reader(config, embeddings.shape[1])
        self.register_buffer("embeddings", embeddings, persistent=False)  # the frozen model's own table

    def forward(self, states: Tensor, ids: Tensor, valid: Tensor) -> Tensor:
        """states (B, T, layers, hidden) that predict ids (B, T); valid (B, T) bool → evidence (B, T, n), zero where invalid."""
        features = self.normaliser(states)
        attention = self.attention(features)
        counted = first_occurrences(attention.detach(), ids, valid, self.repeat_threshold)
        return self.weigh(features, attention, ids, counted)

    def weigh(self, features: Tensor, attention: Tensor, ids: Tensor, counted: Tensor) -> Tensor:
        """Evidence (B, T, n) once the attention (B, T, rounds, slots) and the positions that count (B, T) are known."""
        reading = self.reader.read(features)
        weight = self.reader.reliability(reading, self.reader.surprise(self.embeddings[ids])) * counted
        return weight.unsqueeze(-1) * attention.flatten(-2) * (self.codes(ids) - self.reader.centre(reading))
