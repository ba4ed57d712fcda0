"""The extractor: from a text's hidden states and tokens to soft evidence for every sign of a codeword."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from watermark.config import WatermarkConfig
from watermark.embedding.attention import SlotAttention, StateNormaliser
from watermark.embedding.repeats import first_occurrences
from watermark.embedding.token_codes import TokenCodes
from watermark.extraction.reader import Reader
from watermark.floats import BLOCK, single, summed


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

    def widened(self) -> Evidence:
        """The same in float32, once for all that is computed from it, unless it is too long for that."""
        return self if self.tokens > BLOCK else replace(self, per_token=single(self.per_token))

    def total(self) -> np.ndarray:
        """float64 (n,): evidence of the whole text."""
        return summed(self.per_token)


class Contexts(nn.Module):
    """What the extractor makes of a position before it looks at the token there: nearly all of its work, on states alone.

    states (…, layers, hidden) → attention (…, rounds, slots), centre (…, n) and the context's side of the reliability (…, AFFINITY + 1).
    """

    def __init__(self, normaliser: StateNormaliser, attention: SlotAttention, reader: Reader) -> None:
        super().__init__()
        self.normaliser, self.attention, self.reader = normaliser, attention, reader

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.normaliser(states)
        reading = self.reader.read(features)
        return self.attention(features), self.reader.centre(reading), self.reader.context(reading)


class Extractor(nn.Module):
    """Re-computes the attention that the embedder had at each position and accumulates signed codes per slot:

    e_i = Σ_t w(h_{t-1}, y_t) · a_i(h_{t-1}) · (κ_i(y_t) − c_i(h_{t-1})),

    over the tokens whose context is not a repetition. Nothing here depends on a key.
    """

    def __init__(
        self, config: WatermarkConfig, normaliser: StateNormaliser, attention: SlotAttention, codes: TokenCodes, embedding_size: int
    ) -> None:
        super().__init__()
        self.n = config.n
        self.repeat_threshold = config.repeat_threshold
        self.codes = codes
        self.reader = Reader(config, embedding_size)
        self.contexts = Contexts(normaliser, attention, self.reader)

    def forward(self, found: tuple[Tensor, Tensor, Tensor], embeddings: Tensor, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Evidence (tokens, n) of sequences that lie one after the other, `lengths` tokens each.

        `found` is what `contexts`, or that network as a backend has compiled it, makes of the states (tokens, layers, hidden) that predict
        ids (tokens,); embeddings (tokens, E) of those ids.
        """
        attention, centre, context = found
        counted = [
            first_occurrences(a[None], i[None], torch.ones_like(i[None], dtype=torch.bool), self.repeat_threshold)[0]
            for a, i in zip(attention.split(list(lengths)), ids.split(list(lengths)), strict=True)
        ]
        return self.weigh(attention, centre, context, embeddings, ids, torch.cat(counted))

    def weigh(self, attention: Tensor, centre: Tensor, context: Tensor, embeddings: Tensor, ids: Tensor, counted: Tensor) -> Tensor:
        """Evidence (…, n): what `contexts` says of each position, the token there with its embedding, and whether it counts (…)."""
        weight = self.reader.reliability(context, self.reader.surprise(embeddings)) * counted
        return weight.unsqueeze(-1) * attention.flatten(-2) * (self.codes(ids) - centre)
