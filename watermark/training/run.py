"""The whole training of a pair: features, joint training, refinement. Each stage goes on where a broken-off run stopped.

Several processes share the first two; the refinement, minutes where those take hours, is left to the main one."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from watermark.checkpoint import save_pair
from watermark.config import AnyConfig, ResidualConfig
from watermark.inference.torch_lm import TorchLM
from watermark.pair import WatermarkPair
from watermark.training.course import Course
from watermark.training.dataset import FeatureSet
from watermark.training.features import FeatureSpec, compute_features
from watermark.training.finished import FinishedSpec, finished_texts
from watermark.training.processes import ALONE, Processes
from watermark.training.profiles import Advance, Profile
from watermark.training.refinement import RefinementSettings, refine
from watermark.training.residual_course import ResidualCourse, UpperSet
from watermark.training.tournament_course import TournamentCourse
from watermark.training.trainer import Progress, Trainer, TrainingSettings
from watermark.training.upper_features import upper_shard

REPORT = "training.json"
WINDOW = 160
"""Target tokens of a text for the kinds that act inside the model, and the longest prompt before them."""
PROMPT = (8, 48)


def run_training(
    lm: TorchLM,
    config: AnyConfig,
    corpus: Path,
    out: Path,
    features: Path,
    profile: Profile,
    seed: int,
    advance: Advance,
    processes: Processes = ALONE,
) -> dict[str, Any] | None:
    """Train a pair for `lm` into the folder `out`; the report, which is also left there as training.json, in the main process alone.

    Raises InvalidInput (corpus, features of another run) and CheckpointError (`out` holds a run with other settings).
    """
    settings = TrainingSettings(steps=profile.steps, learning_rate=profile.learning_rate, seed=seed)
    clock = [time.monotonic()]
    course = _course(lm, config, corpus, features, profile, seed, advance, processes)
    clock.append(time.monotonic())

    latest: dict[str, float] = {}

    def on_step(step: Progress) -> None:
        latest.update(step.figures)
        first, second = course.shown
        advance("training", step.step, step.steps, f"z {latest[first]:.2f}, edited {latest[second]:.2f}" if latest else "")

    pair = Trainer(lm, config, settings, course, out, processes).run(on_step)
    if not processes.main:
        return None
    clock.append(time.monotonic())
    refinement = _refine(lm, pair, corpus, out, profile, seed, advance) if isinstance(pair, WatermarkPair) and profile.finished else None
    clock.append(time.monotonic())
    stages = ("features", "training", "refinement")
    report = {
        "checkpoint": out.name,
        "base_model": lm.name,
        "kind": config.kind,
        "profile": asdict(profile),
        "processes": processes.count,
        "seed": seed,
        "seconds": {name: round(end - start) for name, start, end in zip(stages, clock, clock[1:], strict=False)},
        "figures": latest,
        "refinement": refinement,
    }
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _course(
    lm: TorchLM, config: AnyConfig, corpus: Path, folder: Path, profile: Profile, seed: int, advance: Advance, processes: Processes
) -> Course:
    """The kind's own way of training, with its features."""
    spec = FeatureSpec(documents=profile.documents, sampled=profile.sampled, query_layers=config.query_layers, seed=seed)

    def on_shard(done: int, total: int) -> None:
        advance("features", done, total, "")

    if not isinstance(config, ResidualConfig):
        return TournamentCourse(FeatureSet(compute_features(lm, corpus, folder, spec, on_shard, processes=processes)), texts=profile.texts)
    spec = FeatureSpec(**asdict(spec) | {"query_layers": (config.first,), "window": WINDOW, "prompt": PROMPT, "versions": 0})
    return ResidualCourse(UpperSet(compute_features(lm, corpus, folder, spec, on_shard, upper_shard, processes)), texts=profile.texts)


def _refine(lm: TorchLM, pair: WatermarkPair, corpus: Path, out: Path, profile: Profile, seed: int, advance: Advance) -> dict[str, Any]:
    """The extractor's own weights, on texts that were written from beginning to end."""
    finished = FinishedSpec(texts=profile.finished, seed=seed)
    pair.eval()
    cache = out / f"finished-{profile.finished}.safetensors"  # all else that decides it, the trainer holds to
    data = finished_texts(lm, pair, corpus, cache, finished, lambda stage, done, total: advance(stage, done, total, ""))
    refining = RefinementSettings(seed=seed)
    result = refine(pair, lm.embed, data, refining, lambda step, figures: advance("refinement", step, refining.steps, _words(figures)))
    save_pair(pair, lm, out)
    return asdict(result)


def _words(figures: dict[str, float]) -> str:
    return f"z {figures['val_z_whole']:.2f}, edited {figures['val_z_edited']:.2f}" if "val_z_whole" in figures else ""
