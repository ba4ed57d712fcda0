"""What test_processes runs in two processes: torchrun --nproc-per-node 2 -m tests.training.launched SCENE CORPUS FOLDER."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from tests.fakes import fake_config, fake_lm
from tests.residual.conftest import small
from tests.training.fake_course import FakeCourse
from watermark.training.course import Course
from watermark.training.dataset import FeatureSet
from watermark.training.features import FeatureSpec, compute_features
from watermark.training.processes import ALONE, Processes, join
from watermark.training.residual_course import ResidualCourse, UpperSet
from watermark.training.tournament_course import TournamentCourse
from watermark.training.trainer import Trainer, TrainingSettings
from watermark.training.upper_features import upper_shard

SPEC = FeatureSpec(documents=16, sampled=8, window=48, prompt=(4, 12), candidates=16, versions=3, query_layers=(0, 1, 2), shard=8)
UPPER = FeatureSpec(documents=24, window=80, prompt=(4, 12), candidates=16, versions=0, query_layers=(2,), shard=8)
SETTINGS = TrainingSettings(steps=8, learning_rate=1e-3, warmup=2, report_every=4, validate_every=4, save_every=1e9)
TEXTS = 4
KILLED_AT = 5


def course(kind: str, corpus: Path, features: Path, processes: Processes = ALONE) -> Course:
    if kind == "fake":
        return FakeCourse(TEXTS, processes)
    if kind == "tournament":
        return TournamentCourse(FeatureSet(compute_features(fake_lm(), corpus, features, SPEC, processes=processes)), TEXTS, candidates=12)
    paths = compute_features(fake_lm(), corpus, features, UPPER, make=upper_shard, processes=processes)
    return ResidualCourse(UpperSet(paths), TEXTS, candidates=12)


def trainer(kind: str, corpus: Path, folder: Path, processes: Processes = ALONE, save_every: float = 1e9) -> Trainer:
    settings = TrainingSettings(**{**vars(SETTINGS), "save_every": save_every})
    config = small("gated") if kind == "residual" else fake_config()
    return Trainer(
        fake_lm(), config, settings, course(kind, corpus, folder.parent / f"features-{kind}", processes), folder / kind, processes
    )


def main(scene: str, corpus: Path, folder: Path) -> None:
    """`whole`: train every kind, and leave what each process has. `killed`: the main process dies on the way. `resumed`: go on."""
    torch.set_num_threads(1)
    processes = join("cpu")
    if scene == "whole":
        for kind in ("fake", "tournament", "residual"):
            made = trainer(kind, corpus, folder, processes)
            gradients: list[torch.Tensor] = []

            def keep(progress, made=made, gradients=gradients) -> None:
                gradients.append(torch.cat([p.grad.flatten() for p in made.pair.parameters() if p.grad is not None]))

            made.run(keep)
            found = {"gradients": torch.stack(gradients), "pair": made.pair.state_dict(), "course": made.course.state(), "step": made.step}
            torch.save(found, folder / f"{kind}-{processes.index}.pt")
        return
    made = trainer("tournament", corpus, folder, processes, save_every=0.0)
    begun = made.step

    def die(progress) -> None:
        if scene == "killed" and processes.main and progress.step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    made.run(die)
    torch.save({"begun": begun, "pair": made.pair.state_dict()}, folder / f"{scene}-{processes.index}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
