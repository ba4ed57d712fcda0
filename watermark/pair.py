"""The pair: an embedder and an extractor, trained together for one base model."""

from __future__ import annotations

import torch
from torch import nn

from watermark.base_model import TokenizedModel
from watermark.config import AnyConfig, ResidualConfig, WatermarkConfig
from watermark.embedding.attention import SlotAttention, StateNormaliser
from watermark.embedding.embedder import Embedder
from watermark.embedding.token_codes import TokenCodes, cached_table
from watermark.extraction.extractor import Extractor
from watermark.residual.embedder import ResidualEmbedder
from watermark.residual.extractor import TextExtractor


class WatermarkPair(nn.Module):
    """Kind `tournament`: both halves share one attention. Built from a config alone; weights come from `watermark.checkpoint`."""

    def __init__(self, config: WatermarkConfig, lm: TokenizedModel) -> None:
        super().__init__()
        self.config = config
        self.normaliser = StateNormaliser(config)
        self.attention = SlotAttention(config)
        self.codes = TokenCodes(cached_table(lm, config.n, config.code_salt))
        self.embedder = Embedder(config, self.normaliser, self.attention, self.codes)
        self.extractor = Extractor(config, self.normaliser, self.attention, self.codes, lm.hidden_size)


class ResidualPair(nn.Module):
    """Kinds `gated` and `substituted`: an embedder inside the model and an extractor that reads tokens alone."""

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.config = config
        self.embedder = ResidualEmbedder(config)
        self.extractor = TextExtractor(config)


AnyPair = WatermarkPair | ResidualPair


def build_pair(config: AnyConfig, lm: TokenizedModel, seed: int = 0) -> AnyPair:
    """A pair with freshly drawn weights, on the device of the language model. Raises BaseModelError where the kind cannot act in it."""
    if isinstance(config, ResidualConfig):
        lm.make_steerable()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pair = ResidualPair(config) if isinstance(config, ResidualConfig) else WatermarkPair(config, lm)
    return pair.to(lm.device)
