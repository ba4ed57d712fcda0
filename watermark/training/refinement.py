"""The last stage: the extractor's own network, refined on finished, edited, re-tokenised texts; the shared attention stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from watermark.errors import InvalidInput
from watermark.extraction.reader import Embed
from watermark.pair import WatermarkPair
from watermark.training.finished import Finished
from watermark.training.objective import TARGET_Z

HELD_OUT = 8
"""One text in so many, with all its versions, is never trained on."""


@dataclass(frozen=True)
class RefinementSettings:
    steps: int = 600
    rows: int = 16
    """Edited texts per step."""
    learning_rate: float = 2e-4
    validate_every: int = 60
    seed: int = 0


@dataclass(frozen=True)
class Refinement:
    """What came of it: held-out figures before, and at the best step, whose weights the pair has now."""

    step: int
    before: dict[str, float]
    after: dict[str, float]


def z_scores(pair: WatermarkPair, embed: Embed, data: Finished, rows: Tensor) -> Tensor:
    """z = s·e / |e| (R,) of the true codeword for the given rows of the data; differentiable in the reader's weights."""
    device, reader = pair.attention.keys.device, pair.extractor.reader
    features, attention = data["features"][rows].float().to(device), data["attention"][rows].float().to(device)
    ids, counted = data["ids"][rows].long().to(device), data["counted"][rows].to(device)
    reading = reader.read(features)
    evidence = pair.extractor.weigh(attention, reader.centre(reading), reader.context(reading), embed(ids), ids, counted).sum(dim=1)
    signs = data["signs"][data["text"][rows]].float().to(device)
    return (signs * evidence).sum(dim=-1) / evidence.norm(dim=-1).clamp(min=1e-6)


def refine(
    pair: WatermarkPair,
    embed: Embed,
    data: Finished,
    settings: RefinementSettings,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Refinement:
    """Train the reader in place; it ends with the weights that were best on the held-out texts, or its own if none were better."""
    held_out = data["text"] % HELD_OUT == 0
    if len(data["signs"]) < 2:
        raise InvalidInput("The refinement needs at least two finished texts: one in eight, the first among them, is held out.")
    training, validation = torch.nonzero(~held_out)[:, 0], torch.nonzero(held_out)[:, 0]
    reader = pair.extractor.reader
    reader.requires_grad_(True)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    before = best = _validate(pair, embed, data, validation)
    found, weights = 0, copy.deepcopy(reader.state_dict())
    for step in range(1, settings.steps + 1):
        rng = np.random.default_rng([settings.seed, step])
        rows = training[torch.from_numpy(rng.choice(len(training), min(settings.rows, len(training)), replace=False))]
        loss = F.softplus(TARGET_Z - z_scores(pair, embed, data, rows)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        figures = {"loss": float(loss.detach())}
        if step % settings.validate_every == 0 or step == settings.steps:
            figures |= _validate(pair, embed, data, validation)
            if figures["val_loss"] < best["val_loss"]:
                best, found, weights = figures, step, copy.deepcopy(reader.state_dict())
        if on_step:
            on_step(step, figures)
    reader.load_state_dict(weights)
    return Refinement(found, before, {name: best[name] for name in before})


@torch.no_grad()
def _validate(pair: WatermarkPair, embed: Embed, data: Finished, rows: Tensor) -> dict[str, float]:
    z = torch.cat([z_scores(pair, embed, data, part) for part in rows.split(32)])
    versions = len(data["text"]) // len(data["signs"])
    whole = rows % versions == 0
    return {
        "val_loss": float(F.softplus(TARGET_Z - z).mean()),
        "val_z_whole": float(z[whole].mean()),
        "val_z_edited": float(z[~whole].mean()),
        "val_z_edited_p10": float(z[~whole].quantile(0.1)),
    }
