"""The training loop: resumable, deterministic by seed, the same code on a CPU and a GPU, in one process and in many."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from watermark.checkpoint import save_pair
from watermark.config import AnyConfig
from watermark.errors import CheckpointError
from watermark.inference.torch_lm import TorchLM
from watermark.pair import AnyPair
from watermark.training.course import Course
from watermark.training.curves import plot_curves
from watermark.training.processes import ALONE, Processes

STATE, CURVES = "training.pt", "curves.csv"


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how hard to train."""

    steps: int = 4000
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

    def __init__(
        self, lm: TorchLM, config: AnyConfig, settings: TrainingSettings, course: Course, folder: Path, processes: Processes = ALONE
    ) -> None:
        self.lm, self.settings, self.course, self.folder, self.processes = lm, settings, course, folder, processes
        folder.mkdir(parents=True, exist_ok=True)
        self.pair: AnyPair = course.begin(lm, config, settings.seed)
        self.optimizer = torch.optim.AdamW(course.groups(self.pair), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.step = 0
        if (state := processes.from_main(self._saved)) is not None:
            self._resume(state)
        processes.share(self.pair)  # begun alike by the seed, but machines may differ in a last digit

    def run(self, on_step: Callable[[Progress], None] | None = None) -> AnyPair:
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
                    if self.processes.main:
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
        rng = np.random.default_rng(self.processes.stream(settings.seed, self.step))
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step) * group["scale"]
        terms, figures = self.course.losses(self.lm, self.pair, rng, generator)
        loss = torch.stack(list(terms.values())).sum()
        own = {"loss": float(loss.detach()), **{k: float(v.detach()) for k, v in terms.items()}, **figures}
        figures = self.processes.mean(own)  # with which all go on, or all stop
        if not math.isfinite(figures["loss"]):
            raise FloatingPointError(f"The loss is not finite at step {self.step}; lower the learning rate. The last checkpoint is kept.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.processes.average_gradients(list(self.pair.parameters()))
        torch.nn.utils.clip_grad_norm_(self.pair.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.course.after_step(figures)
        return figures

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Of the held-out texts; see `Course`."""
        return self.course.validate(self.lm, self.pair, self.settings.seed)

    # ---- files ------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Checkpoint, training state and plot; each file replaced in one step. The main process alone writes."""
        if not self.processes.main:
            return
        save_pair(self.pair, self.lm, self.folder)
        state = {
            "step": self.step,
            "settings": self._description(),
            "pair": self.pair.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "course": self.course.state(),
        }
        partial = self.folder / f"{STATE}.partial"
        torch.save(state, partial)
        partial.replace(self.folder / STATE)
        if (self.folder / CURVES).exists():
            plot_curves(self.folder / CURVES)

    def _description(self) -> str:
        kept = {k: v for k, v in asdict(self.settings).items() if k not in {"save_every", "report_every", "validate_every"}}
        return f"{sorted((kept | self.course.description()).items())} {self.pair.config.model_dump(exclude={'base_model'})}"

    def _saved(self) -> dict[str, Any] | None:
        """What an earlier run left here."""
        path = self.folder / STATE
        if not path.exists():
            return None
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["settings"] != self._description():
            raise CheckpointError(f"{path} was left by a run with other settings. Name another output folder, or delete it to start anew.")
        return state

    def _resume(self, state: dict[str, Any]) -> None:
        self.pair.load_state_dict(state["pair"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.course.restore(state["course"])
        self.step = state["step"]
        if self.processes.main:
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
        columns = ["step", "learning_rate", "loss", *self.course.terms, *self.course.validation]
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
