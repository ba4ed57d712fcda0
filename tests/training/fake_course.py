"""A course whose loss is one of texts by their numbers: half of them in each of two processes, or all in one, as a test arranges it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from watermark.config import WatermarkConfig
from watermark.inference.torch_lm import TorchLM
from watermark.pair import WatermarkPair, build_pair
from watermark.training.course import Losses
from watermark.training.processes import Processes


@dataclass
class FakeCourse:
    """See `Course`. Text k asks the attention at random states of its own for random weights of its own."""

    texts: int
    processes: Processes
    seen: float = 0.0

    terms = ("fit", "texts")
    validation = ()
    shown = ("fit", "texts")

    def begin(self, lm: TorchLM, config: WatermarkConfig, seed: int) -> WatermarkPair:
        pair = build_pair(config, lm, seed)
        assert isinstance(pair, WatermarkPair)
        return pair

    def groups(self, pair: WatermarkPair) -> list[dict[str, Any]]:
        return [{"params": list(pair.parameters()), "scale": 1.0}]

    def losses(self, lm: TorchLM, pair: WatermarkPair, rng: np.random.Generator, generator: torch.Generator) -> Losses:
        first = self.texts * self.processes.index
        found = []
        for text in range(first, first + self.texts):
            own = torch.Generator().manual_seed(text)
            states = torch.randn(6, len(pair.config.query_layers), pair.config.hidden_size, generator=own)
            attention = pair.attention(pair.normaliser(states))
            found.append((attention - torch.rand(attention.shape, generator=own)).square().mean())
        return {"fit": torch.stack(found).mean()}, {"texts": float(self.texts * (self.processes.index + 1))}

    def after_step(self, figures: dict[str, float]) -> None:
        self.seen = figures["texts"]

    def validate(self, lm: TorchLM, pair: WatermarkPair, seed: int) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def restore(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]

    def description(self) -> dict[str, Any]:
        return {}
