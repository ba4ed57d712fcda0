"""Training on the fake model: it learns, it is deterministic, and a run that was broken off ends like one that was not."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from tests.fakes import fake_config, fake_lm
from watermark.checkpoint import load_pair
from watermark.errors import CheckpointError, InvalidInput
from watermark.training.dataset import FeatureSet
from watermark.training.features import FeatureSpec, compute_features, load_shard
from watermark.training.tournament_course import TournamentCourse
from watermark.training.trainer import Trainer, TrainingSettings

SPEC = FeatureSpec(documents=16, sampled=8, window=48, prompt=(4, 12), candidates=16, versions=3, query_layers=(0, 1, 2), shard=8)
SETTINGS = TrainingSettings(steps=12, warmup=2, report_every=4, validate_every=6, save_every=1e9)


@pytest.fixture(scope="module")
def shards(corpus, tmp_path_factory) -> list[Path]:
    return compute_features(fake_lm(), corpus, tmp_path_factory.mktemp("features"), SPEC)


def train(shards: list[Path], folder: Path, settings: TrainingSettings = SETTINGS, stop_at: int | None = None, texts: int = 4) -> Trainer:
    trainer = Trainer(fake_lm(), fake_config(), settings, TournamentCourse(FeatureSet(shards), texts, candidates=12), folder)

    def on_step(progress) -> None:
        if progress.step == stop_at:
            raise KeyboardInterrupt

    trainer.run(on_step)
    return trainer


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_pair(folder, fake_lm()).state_dict()


def test_features_describe_the_corpus_as_the_model_sees_it(shards):
    lm, shard = fake_lm(), load_shard(shards[0])
    assert len(shards) == 3
    ids = shard["ids"].long()
    prompt = ids.shape[1] - SPEC.window
    output = lm.model(input_ids=ids[:2], output_hidden_states=True)
    expected = torch.stack([output.hidden_states[layer][:, prompt - 1 : -1] for layer in SPEC.query_layers], dim=2)
    assert torch.allclose(shard["states"][:2].float(), expected, atol=5e-3)
    values, candidates = output.logits[:, prompt - 1 : -1].topk(SPEC.candidates, dim=-1)
    assert torch.allclose(shard["probs"][:2].float(), values.softmax(-1), atol=1e-3)
    assert (shard["candidates"][:2] == candidates).float().mean() > 0.99
    # The first version is the text without its prompt: same tokens, other context.
    assert (shard["edited_ids"][:, 0, : SPEC.window] == ids[:, prompt:]).all()
    promptless = torch.cat([torch.zeros(2, 1, dtype=torch.long), ids[:2, prompt:-1]], dim=1)
    again = lm.trunk_states(promptless, torch.ones_like(promptless), SPEC.query_layers)
    assert torch.allclose(shard["edited_states"][:2, 0, : SPEC.window].float(), again, atol=5e-3)


def test_features_resume_and_refuse_another_configuration(corpus, shards, tmp_path):
    folder = tmp_path / "features"
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_features(fake_lm(), corpus, folder, SPEC, stop)
    early = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert len(early) == 2
    paths = compute_features(fake_lm(), corpus, folder, SPEC)
    assert all(path.stat().st_mtime_ns == time for path, time in early.items()), "whole shards are kept"
    for a, b in zip(paths, shards, strict=True):
        first, second = load_shard(a), load_shard(b)
        assert all(torch.equal(first[k], second[k]) for k in first)
    with pytest.raises(InvalidInput, match="another configuration"):
        compute_features(fake_lm(), corpus, folder, FeatureSpec(documents=16))


def test_a_corpus_that_is_too_small_says_so(corpus, tmp_path):
    with pytest.raises(InvalidInput, match="too few long documents"):
        compute_features(fake_lm(), corpus, tmp_path / "f", FeatureSpec(documents=96, window=48, prompt=(4, 12), query_layers=(0, 1)))


def test_training_lowers_the_loss(shards, tmp_path):
    trainer = train(shards, tmp_path / "run", TrainingSettings(steps=60, learning_rate=1e-3, report_every=10), texts=8)
    with (trainer.folder / "curves.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0] - 0.05, losses
    assert (trainer.folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_same_seed_same_checkpoint_and_another_seed_another(shards, tmp_path):
    train(shards, tmp_path / "a")
    train(shards, tmp_path / "b")
    train(shards, tmp_path / "c", TrainingSettings(**{**SETTINGS.__dict__, "seed": 1}))
    a, b, c = weights(tmp_path / "a"), weights(tmp_path / "b"), weights(tmp_path / "c")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["attention.keys"], c["attention.keys"])


def test_a_broken_off_run_ends_like_an_unbroken_one(shards, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(shards, tmp_path / "broken", stop_at=7)
    resumed = train(shards, tmp_path / "broken")
    assert resumed.step == SETTINGS.steps
    train(shards, tmp_path / "whole")
    a, b = weights(tmp_path / "broken"), weights(tmp_path / "whole")
    assert all(torch.equal(a[k], b[k]) for k in a)
    curves = [(tmp_path / run / "curves.csv").read_text().splitlines() for run in ("broken", "whole")]
    assert [line.split(",")[0] for line in curves[0]] == [line.split(",")[0] for line in curves[1]] == ["step", "4", "8", "12"]


def test_other_settings_do_not_take_up_an_old_run(shards, tmp_path):
    train(shards, tmp_path / "run")
    with pytest.raises(CheckpointError, match="other settings"):
        train(shards, tmp_path / "run", TrainingSettings(**{**SETTINGS.__dict__, "steps": 20}))
