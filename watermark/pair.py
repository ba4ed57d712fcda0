"""The pair: an embedder and an extractor that share one attention, trained together for one base model."""

from __future__ import annotations

import torch
from torch import nn

from watermark.base_model import FrozenLM
from watermark.config import WatermarkConfig
from watermark.embedding.attention import SlotAttention, StateNormaliser
from watermark.embedding.embedder import Embedder
from watermark.embedding.token_codes import TokenCodes, cached_table
from watermark.extraction.extractor import Extractor


class WatermarkPair(nn.Module):
    """Holds `embedder` and `extractor`. Built from a config alone; weights come from `watermark.checkpoint`."""

    def __init__(self, config: WatermarkConfig, lm: FrozenLM) -> None:
        super().__init__()
        self.config = config
        self.normaliser = StateNormaliser(config)
        self.attention = SlotAttention(config)
        self.codes = TokenCodes(cached_table(lm, config.n, config.code_salt))
        self.embedder = Embedder(config, self.normaliser, self.attention, self.codes)
        self.extractor = Extractor(config, self.normaliser, self.attention, self.codes, lm.hidden_size)


def build_pair(config: WatermarkConfig, lm: FrozenLM, seed: int = 0) -> WatermarkPair:
    """A pair with freshly drawn weights, on the device of the language model."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pair = WatermarkPair(config, lm)
    return pair.to(lm.device)
