"""How pairs of kinds `gated` and `substituted` are trained: the layers above the first marked one run in every step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from watermark.config import ResidualConfig
from watermark.errors import InvalidInput
from watermark.inference.torch_lm import TorchLM
from watermark.pair import ResidualPair, build_pair
from watermark.training.course import Losses
from watermark.training.directions import quiet_directions
from watermark.training.features import load_shard
from watermark.training.residual import TARGET_Z, UpperBatch, bit_accuracy, read_marked, upper_batch, z_scores
from watermark.training.substitution import aim, imitate

SHORTEST = 64
"""Target tokens of the shortest training text."""
EMBEDDER_RATE, MATCHED_RATE = 0.2, 0.1
"""Learning rates of the embedder and of the extractor's readout, as multiples of that of the extractor's transformer. Both start from
directions that work, and a step's gradient is mostly the texts' own variation: a fast one undoes more than it learns."""
ADAPTATION = 0.05
"""How fast the multiplier follows: its logarithm grows by so much a step when the divergence is twice its target."""
MULTIPLIERS = (0.1, 1000.0)
VALIDATED = 16
"""Held-out texts at a time."""


class UpperSet:
    """Shards of `upper_features` in memory: about 300 KB a text for width 640. The first and the last are held out."""

    def __init__(self, paths: list[Path]) -> None:
        if len(paths) < 3:
            raise InvalidInput(f"Training needs at least three shards of features, two of them to be held out; there are {len(paths)}.")
        shards = [load_shard(path) for path in paths]
        self.held_out, self.training = [shards[0], shards[-1]], shards[1:-1]
        self.window = shards[0]["candidates"].shape[1]

    def tokens(self) -> Tensor:
        """Ids of all training texts, one after the other."""
        return torch.cat([shard["ids"].flatten() for shard in self.training]).long()


@dataclass
class ResidualCourse:
    """See `Course`."""

    data: UpperSet
    texts: int = 16
    """Texts per step."""
    candidates: int = 48
    """Likeliest candidates per position from which training draws."""
    target: float = 0.25
    """Divergence from the base model to hold, in nats per token."""
    multiplier: float = 10.0
    """What a nat above the target costs; it adapts."""

    terms = ("detection", "quality", "divergence", "multiplier", "z_clean", "z_edited", "bits_clean", "bits_edited")
    validation = (
        "val_z_clean",
        "val_z_clean_p05",
        "val_z_edited",
        "val_z_edited_p10",
        "val_bits_clean",
        "val_bits_edited",
        "val_divergence",
    )
    shown = ("z_clean", "z_edited")

    def begin(self, lm: TorchLM, config: ResidualConfig, seed: int) -> ResidualPair:
        pair = build_pair(config, lm, seed)
        assert isinstance(pair, ResidualPair)
        pair.extractor.fit(lm.embed(self.data.tokens().to(lm.device)))
        quiet = quiet_directions(lm, self.data.training, config.slot_width)
        if config.kind == "gated":
            pair.embedder.aim(quiet / head_gain(lm).unsqueeze(1))
            pair.extractor.match(pair.embedder.directions() * head_gain(lm))
        else:
            imitate(lm, pair, self.data.training)
            pair.extractor.match(aim(lm, pair, self.data.training[0], quiet, self.target, self.candidates))
        return pair

    def groups(self, pair: ResidualPair) -> list[dict[str, Any]]:
        matched = [pair.extractor.readout.weight]
        others = [p for p in pair.extractor.parameters() if p is not matched[0]]
        return [
            {"params": list(pair.embedder.parameters()), "scale": EMBEDDER_RATE},
            {"params": matched, "scale": MATCHED_RATE},
            {"params": others, "scale": 1.0},
        ]

    def losses(self, lm: TorchLM, pair: ResidualPair, rng: np.random.Generator, generator: torch.Generator) -> Losses:
        shard = self.data.training[rng.integers(len(self.data.training))]
        rows = torch.from_numpy(rng.choice(len(shard["ids"]), min(self.texts, len(shard["ids"])), replace=False))
        length = int(rng.integers(min(SHORTEST, self.data.window), self.data.window + 1))
        batch = upper_batch(shard, rows, length, self.candidates, lm.device)
        signs = _signs(len(rows), pair.config.n, generator)
        read = read_marked(lm, pair, batch, signs, rng, generator)
        z_clean, z_edited = z_scores(read.clean, signs), z_scores(read.edited, signs)
        divergence = read.divergence.mean()
        terms = {
            "detection": (F.softplus(TARGET_Z - z_clean) + F.softplus(TARGET_Z - z_edited)).mean() / 2,
            "quality": self.multiplier * (divergence - self.target),
        }
        figures = {
            "divergence": float(divergence.detach()),
            "multiplier": self.multiplier,
            "z_clean": float(z_clean.detach().mean()),
            "z_edited": float(z_edited.detach().mean()),
            "bits_clean": float(bit_accuracy(read.clean.detach(), signs)),
            "bits_edited": float(bit_accuracy(read.edited.detach(), signs)),
        }
        return terms, figures

    def after_step(self, figures: dict[str, float]) -> None:
        """Dual ascent on the multiplier's logarithm, so that it stays above zero and recovers from any size in like time."""
        change = ADAPTATION * max(-1.0, min(2.0, figures["divergence"] / self.target - 1))
        self.multiplier = min(max(self.multiplier * math.exp(change), MULTIPLIERS[0]), MULTIPLIERS[1])

    def validate(self, lm: TorchLM, pair: ResidualPair, seed: int) -> dict[str, float]:
        generator, rng = torch.Generator(lm.device).manual_seed(seed), np.random.default_rng([seed, 7])
        clean, edited, bits, divergences = [], [], [], []
        for batch in self._held_out(lm.device):
            signs = _signs(len(batch.ids), pair.config.n, generator)
            read = read_marked(lm, pair, batch, signs, rng, generator)
            clean.append(z_scores(read.clean, signs))
            edited.append(z_scores(read.edited, signs))
            bits.append((bit_accuracy(read.clean, signs), bit_accuracy(read.edited, signs)))
            divergences.append(read.divergence.mean())
        z, z_edited = torch.cat(clean), torch.cat(edited)
        return {
            "val_z_clean": float(z.mean()),
            "val_z_clean_p05": float(z.quantile(0.05)),
            "val_z_edited": float(z_edited.mean()),
            "val_z_edited_p10": float(z_edited.quantile(0.1)),
            "val_bits_clean": float(np.mean([float(a) for a, _ in bits])),
            "val_bits_edited": float(np.mean([float(b) for _, b in bits])),
            "val_divergence": float(torch.stack(divergences).mean()),
        }

    def _held_out(self, device: torch.device) -> list[UpperBatch]:
        return [
            upper_batch(shard, rows, self.data.window, shard["candidates"].shape[2], device)
            for shard in self.data.held_out
            for rows in torch.arange(len(shard["ids"])).split(VALIDATED)
        ]

    def state(self) -> dict[str, Any]:
        return {"multiplier": self.multiplier}

    def restore(self, state: dict[str, Any]) -> None:
        self.multiplier = state["multiplier"]

    def description(self) -> dict[str, Any]:
        return {"texts": self.texts, "candidates": self.candidates, "target": self.target}


def head_gain(lm: TorchLM) -> Tensor:
    """What the final norm multiplies each dimension (hidden,) by, up to a common factor."""
    base, _, name = lm.decoder()
    probe = torch.ones(lm.hidden_size, device=lm.device)
    probe[1::2] = -1.0  # a norm that subtracts the mean leaves these as they are
    norm = getattr(base, name)
    with torch.no_grad():
        return (norm(probe) - norm(-probe)).float() / 2 * probe


def _signs(texts: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (texts, n), generator=generator, device=generator.device).float() * 2 - 1
