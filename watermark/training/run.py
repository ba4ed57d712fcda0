"""The whole training of a pair: features, joint training, refinement. Each stage goes on where a broken-off run stopped."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from watermark.checkpoint import save_pair
from watermark.config import WatermarkConfig
from watermark.inference.torch_lm import TorchLM
from watermark.training.dataset import FeatureSet
from watermark.training.features import FeatureSpec, compute_features
from watermark.training.finished import FinishedSpec, finished_texts
from watermark.training.profiles import Advance, Profile
from watermark.training.refinement import RefinementSettings, refine
from watermark.training.trainer import Progress, Trainer, TrainingSettings

REPORT = "training.json"


def run_training(
    lm: TorchLM, config: WatermarkConfig, corpus: Path, out: Path, features: Path, profile: Profile, seed: int, advance: Advance
) -> dict[str, Any]:
    """Train a pair for `lm` into the folder `out`; the report, which is also left there as training.json.

    Raises InvalidInput (corpus, features of another run) and CheckpointError (`out` holds a run with other settings).
    """
    spec = FeatureSpec(documents=profile.documents, sampled=profile.sampled, query_layers=config.query_layers, seed=seed)
    settings = TrainingSettings(steps=profile.steps, texts=profile.texts, learning_rate=profile.learning_rate, seed=seed)
    clock = [time.monotonic()]
    paths = compute_features(lm, corpus, features, spec, lambda done, total: advance("features", done, total, ""))
    clock.append(time.monotonic())

    latest: dict[str, float] = {}

    def on_step(step: Progress) -> None:
        latest.update(step.figures)
        advance("training", step.step, step.steps, f"z {latest['z_promptless']:.2f}, edited {latest['z_edited']:.2f}" if latest else "")

    pair = Trainer(lm, config, settings, FeatureSet(paths), out).run(on_step)
    clock.append(time.monotonic())
    refinement = None
    if profile.finished:
        finished = FinishedSpec(texts=profile.finished, seed=seed)
        pair.eval()
        cache = out / f"finished-{profile.finished}.safetensors"  # all else that decides it, the trainer holds to
        data = finished_texts(lm, pair, corpus, cache, finished, lambda stage, done, total: advance(stage, done, total, ""))
        refining = RefinementSettings(seed=seed)
        refinement = refine(
            pair, lm.embed, data, refining, lambda step, figures: advance("refinement", step, refining.steps, _words(figures))
        )
        save_pair(pair, lm, out)
    clock.append(time.monotonic())
    stages = ("features", "training", "refinement")
    report = {
        "checkpoint": out.name,
        "base_model": lm.name,
        "profile": asdict(profile),
        "seed": seed,
        "seconds": {name: round(end - start) for name, start, end in zip(stages, clock, clock[1:], strict=False)},
        "figures": latest,
        "refinement": asdict(refinement) if refinement else None,
    }
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _words(figures: dict[str, float]) -> str:
    return f"z {figures['val_z_whole']:.2f}, edited {figures['val_z_edited']:.2f}" if "val_z_whole" in figures else ""
