"""The training loop: resumable, deterministic by seed, the same code on a CPU and a GPU."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from watermark.checkpoint import save_pair
from watermark.config import WatermarkConfig
from watermark.errors import CheckpointError
from watermark.inference.torch_lm import TorchLM
from watermark.pair import WatermarkPair, build_pair
from watermark.training.curves import plot_curves
from watermark.training.dataset import FeatureSet
from watermark.training.objective import LossWeights, detection_z, losses

READER_RATE = 5.0
"""Learning rate of the reader, as a multiple of that of the shared attention."""
STATE, CURVES = "training.pt", "curves.csv"


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how hard to train."""

    steps: int = 4000
    texts: int = 8
    """Texts per step."""
    candidates: int = 24
    """Candidates per position that the tournament is trained on (the likeliest ones)."""
    learning_rate: float = 1e-4
    warmup: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    seed: int = 0
    save_every: float = 120.0
    """Seconds between checkpoints."""
    report_every: int = 20
    """Steps per line of the curves."""
    validate_every: int = 500
    loss: LossWeights = field(default_factory=LossWeights)


@dataclass(frozen=True)
class Progress:
    """What a caller may show after each step."""

    step: int
    steps: int
    figures: dict[str, float]
    """Losses and figures averaged since the last report; empty between reports."""


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup))
    return settings.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / settings.steps)))


class Trainer:
    """Trains a pair into `folder`: checkpoint, curves (CSV and PNG) and the state to resume from."""

    def __init__(self, lm: TorchLM, config: WatermarkConfig, settings: TrainingSettings, data: FeatureSet, folder: Path) -> None:
        self.lm, self.settings, self.data, self.folder = lm, settings, data, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.pair: WatermarkPair = build_pair(config, lm, settings.seed)
        self.pair.normaliser.fit(data.sample_states().to(lm.device))
        reader = list(self.pair.extractor.reader.parameters())
        shared = [p for p in self.pair.parameters() if not any(p is r for r in reader)]
        # The shared attention starts from random projections that already work; the reader starts from nothing.
        groups = [{"params": shared, "scale": 1.0}, {"params": reader, "scale": READER_RATE}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.step = 0
        self._resume()

    def run(self, on_step: Callable[[Progress], None] | None = None) -> WatermarkPair:
        """Train to the last step and save. Interrupted, it saves and can be started again."""
        saved = time.monotonic()
        window: list[dict[str, float]] = []
        try:
            while self.step < self.settings.steps:
                window.append(self._train_step())
                self.step += 1
                figures: dict[str, float] = {}
                if self.step % self.settings.report_every == 0 or self.step == self.settings.steps:
                    figures = {name: float(np.mean([w[name] for w in window])) for name in window[0]}
                    window = []
                    if self.step % self.settings.validate_every == 0 or self.step == self.settings.steps:
                        figures |= self.validate()
                    self._log(figures)
                if on_step:
                    on_step(Progress(self.step, self.settings.steps, figures))
                if time.monotonic() - saved > self.settings.save_every:
                    self.save()
                    saved = time.monotonic()
        finally:
            self.save()
        return self.pair

    def _train_step(self) -> dict[str, float]:
        settings, device = self.settings, self.lm.device
        rng = np.random.default_rng([settings.seed, self.step])
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step) * group["scale"]
        batch = self.data.batch(rng, settings.texts, settings.candidates, device)
        terms, figures = losses(self.pair, self.lm.embed, batch, settings.loss, generator)
        loss = torch.stack(list(terms.values())).sum()
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"The loss is not finite at step {self.step}; lower the learning rate. The last checkpoint is kept.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.pair.parameters(), settings.clip_norm)
        self.optimizer.step()
        return {"loss": float(loss.detach()), **{k: float(v.detach()) for k, v in terms.items()}, **figures}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """z on held-out texts, all versions, with signs fixed by the seed: comparable between steps and runs."""
        device = self.lm.device
        generator = torch.Generator(device).manual_seed(self.settings.seed)
        found = []
        for batch in self.data.validation(8, 64, device):
            signs = torch.randint(0, 2, (len(batch.probs), self.pair.config.n), generator=generator, device=device).float() * 2 - 1
            found.append(detection_z(self.pair, self.lm.embed, batch, signs, generator)[0])
        z = torch.cat(found)
        return {
            "val_z_promptless": float(z[:, 0].mean()),
            "val_z_promptless_p05": float(z[:, 0].quantile(0.05)),
            "val_z_edited": float(z[:, 1:].mean()),
            "val_z_edited_p10": float(z[:, 1:].quantile(0.1)),
        }

    # ---- files ------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Checkpoint, training state and plot; each file replaced in one step."""
        save_pair(self.pair, self.lm, self.folder)
        state = {
            "step": self.step,
            "settings": self._description(),
            "pair": self.pair.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.folder / f"{STATE}.partial"
        torch.save(state, partial)
        partial.replace(self.folder / STATE)
        if (self.folder / CURVES).exists():
            plot_curves(self.folder / CURVES)

    def _description(self) -> str:
        kept = {k: v for k, v in asdict(self.settings).items() if k not in {"save_every", "report_every", "validate_every"}}
        return f"{sorted(kept.items())} {self.pair.config.model_dump(exclude={'base_model'})}"

    def _resume(self) -> None:
        path = self.folder / STATE
        if not path.exists():
            return
        state = torch.load(path, map_location=self.lm.device, weights_only=True)
        if state["settings"] != self._description():
            raise CheckpointError(f"{path} was left by a run with other settings. Name another output folder, or delete it to start anew.")
        self.pair.load_state_dict(state["pair"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self._trim_curves()

    def _trim_curves(self) -> None:
        """Drop lines written after the last saved step; they will be written again."""
        path = self.folder / CURVES
        if path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= self.step]
            path.unlink()
            for row in rows:
                self._append({k: v for k, v in row.items() if v != ""})

    def _log(self, figures: dict[str, float]) -> None:
        self._append({"step": self.step, "learning_rate": learning_rate(self.settings, self.step - 1), **figures})

    def _append(self, row: dict[str, object]) -> None:
        path = self.folder / CURVES
        columns = ["step", "learning_rate", "loss", "detection", "balance", "repeats", "z_promptless", "z_edited", "marked"]
        columns += ["val_z_promptless", "val_z_promptless_p05", "val_z_edited", "val_z_edited_p10"]
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
