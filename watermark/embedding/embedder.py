"""The embedder: reweights the next-token candidates so that the tokens drawn carry the codeword."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn

from watermark.config import WatermarkConfig
from watermark.embedding.attention import SlotAttention, StateNormaliser
from watermark.embedding.conditioning import Conditioning
from watermark.embedding.repeats import ContextMemory
from watermark.embedding.reweighting import packed_scores, reweight, round_scores, undecided
from watermark.embedding.token_codes import TokenCodes


class Embedder(nn.Module):
    """Cross-attention to the message slots and the tournament over the candidates."""

    def __init__(self, config: WatermarkConfig, normaliser: StateNormaliser, attention: SlotAttention, codes: TokenCodes) -> None:
        super().__init__()
        self.repeat_threshold = config.repeat_threshold
        self.token_threshold = config.token_threshold
        self.contexts = nn.Sequential(OrderedDict(normaliser=normaliser, attention=attention))
        """Hidden states (…, layers, hidden) → attention (…, rounds, slots)."""
        self.codes = codes
        self.log_gain = nn.Parameter(torch.tensor(1.5))

    def scores(self, attention: Tensor, signs: Tensor, codes: Tensor) -> Tensor:
        """g of every round and candidate, (N, rounds, K), for training; see `round_scores`."""
        return round_scores(attention, signs, codes, self.log_gain.exp())

    def forward(
        self, attention: Tensor, candidates: Tensor, probs: Tensor, conditioning: Conditioning, memory: ContextMemory
    ) -> tuple[Tensor, Tensor]:
        """One decoding step.

        attention (B, rounds, slots) that `contexts` finds for the states that predict the next token; candidates (B, K) token ids with
        probs (B, K) after temperature, top-k and top-p → reweighted probs (B, K) and which rows were marked (B,) bool. A row is left
        exactly as it is if its strength is 0, it has a single candidate, or its context resembles one already marked in this text.
        """
        ids, plain = (np.ascontiguousarray(given.cpu().numpy()) for given in (candidates, probs))
        signs, strength = conditioning.signs.cpu().numpy(), conditioning.strength.cpu().numpy()
        contexts = np.ascontiguousarray(attention.float().cpu().numpy())
        scores = packed_scores(contexts, signs, self.codes.table, ids, math.exp(self.log_gain.item()))
        marked = memory.check_and_add(contexts.reshape(len(ids), -1), undecided(plain, strength), self.repeat_threshold)
        # A token that was drawn in a similar context won there with these very signs, and its rivals lost. Were it favoured again, or
        # they held down again, the text would repeat itself: it keeps its probability, and the others share what is left.
        kept = memory.drawn_before(ids, self.token_threshold)
        reweighted = np.empty_like(plain)
        reweight(plain, scores, strength, marked, kept, reweighted)
        return torch.from_numpy(reweighted).to(probs.device), torch.from_numpy(marked)
