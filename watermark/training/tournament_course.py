"""How pairs of kind `tournament` are trained: on cached features, without the language model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from watermark.config import WatermarkConfig
from watermark.inference.torch_lm import TorchLM
from watermark.pair import WatermarkPair, build_pair
from watermark.training.course import Losses
from watermark.training.dataset import FeatureSet
from watermark.training.objective import LossWeights, detection_z, losses

READER_RATE = 5.0
"""Learning rate of the reader, as a multiple of that of the shared attention."""


@dataclass
class TournamentCourse:
    """See `Course`."""

    data: FeatureSet
    texts: int = 8
    """Texts per step."""
    candidates: int = 24
    """Candidates per position that the tournament is trained on (the likeliest ones)."""
    loss: LossWeights = field(default_factory=LossWeights)

    terms = ("detection", "balance", "repeats", "z_promptless", "z_edited", "marked")
    validation = ("val_z_promptless", "val_z_promptless_p05", "val_z_edited", "val_z_edited_p10")
    shown = ("z_promptless", "z_edited")

    def begin(self, lm: TorchLM, config: WatermarkConfig, seed: int) -> WatermarkPair:
        pair = build_pair(config, lm, seed)
        assert isinstance(pair, WatermarkPair)
        pair.normaliser.fit(self.data.sample_states().to(lm.device))
        return pair

    def groups(self, pair: WatermarkPair) -> list[dict[str, Any]]:
        reader = list(pair.extractor.reader.parameters())
        shared = [p for p in pair.parameters() if not any(p is r for r in reader)]
        # The shared attention starts from random projections that already work; the reader starts from nothing.
        return [{"params": shared, "scale": 1.0}, {"params": reader, "scale": READER_RATE}]

    def losses(self, lm: TorchLM, pair: WatermarkPair, rng: np.random.Generator, generator: torch.Generator) -> Losses:
        batch = self.data.batch(rng, self.texts, self.candidates, lm.device)
        return losses(pair, lm.embed, batch, self.loss, generator)

    def after_step(self, figures: dict[str, float]) -> None:
        pass

    def validate(self, lm: TorchLM, pair: WatermarkPair, seed: int) -> dict[str, float]:
        device = lm.device
        generator = torch.Generator(device).manual_seed(seed)
        found = []
        for batch in self.data.validation(8, 64, device):
            signs = torch.randint(0, 2, (len(batch.probs), pair.config.n), generator=generator, device=device).float() * 2 - 1
            found.append(detection_z(pair, lm.embed, batch, signs, generator)[0])
        z = torch.cat(found)
        return {
            "val_z_promptless": float(z[:, 0].mean()),
            "val_z_promptless_p05": float(z[:, 0].quantile(0.05)),
            "val_z_edited": float(z[:, 1:].mean()),
            "val_z_edited_p10": float(z[:, 1:].quantile(0.1)),
        }

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        assert not state

    def description(self) -> dict[str, Any]:
        return {"texts": self.texts, "candidates": self.candidates, "loss": asdict(self.loss)}
