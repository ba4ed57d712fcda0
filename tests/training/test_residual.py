"""Joint training of the kinds that act inside the model, on the fake one: what is drawn, what it costs, that it learns and resumes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes import fake_lm
from tests.residual.conftest import KINDS, small
from watermark.pair import ResidualPair
from watermark.training.channel import FOREIGN
from watermark.training.features import FeatureSpec, compute_features
from watermark.training.residual import apply_versions, edited_versions, marked_states, read_marked, straight_through, upper_batch
from watermark.training.residual_course import ResidualCourse, UpperSet
from watermark.training.trainer import Progress, Trainer, TrainingSettings
from watermark.training.upper_features import candidate_logits, upper_shard

SETTINGS = TrainingSettings(steps=12, warmup=2, report_every=4, validate_every=6, save_every=1e9)


@pytest.fixture(scope="module", params=KINDS)
def shards(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    spec = FeatureSpec(
        documents=24, sampled=0, window=96, prompt=(4, 12), candidates=16, versions=0, query_layers=(small(request.param).first,), shard=6
    )
    folder = tmp_path_factory.mktemp(f"features-{request.param}")
    return request.param, compute_features(fake_lm(), corpus, folder, spec, make=upper_shard)


def train(shards: tuple[str, list[Path]], folder: Path, settings: TrainingSettings = SETTINGS, stop_at: int | None = None) -> Trainer:
    kind, paths = shards
    trainer = Trainer(fake_lm(), small(kind), settings, ResidualCourse(UpperSet(paths), texts=4, candidates=12), folder)

    def on_step(progress: Progress) -> None:
        if progress.step == stop_at:
            raise KeyboardInterrupt

    trainer.run(on_step)
    return trainer


def started(shards: tuple[str, list[Path]]):
    kind, paths = shards
    lm, course = fake_lm(), ResidualCourse(UpperSet(paths), texts=4, candidates=12)
    pair = course.begin(lm, small(kind), seed=0)
    shard = course.data.training[0]
    return lm, pair, upper_batch(shard, torch.arange(4), 24, 12, lm.device)


def signs_of(pair: ResidualPair, texts: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 2, (texts, pair.config.n), generator=generator).float() * 2 - 1


def test_a_draw_is_one_of_the_candidates_as_often_as_it_is_likely() -> None:
    probs, rows = torch.tensor([0.5, 0.3, 0.2]), torch.eye(3)
    found, drawn = straight_through(probs.log().expand(20_000, 3), rows.expand(20_000, 3, 3), torch.Generator().manual_seed(0))
    assert torch.allclose(found, rows[drawn], atol=1e-6)
    assert torch.allclose(drawn.bincount(minlength=3) / 20_000, probs, atol=0.012)  # 3.4 standard errors of the widest


def test_a_draw_s_gradient_favours_what_the_reader_likes() -> None:
    log_probs = torch.zeros(500, 3, requires_grad=True)
    found, _ = straight_through(log_probs.log_softmax(-1), torch.eye(3).expand(500, 3, 3), torch.Generator().manual_seed(0))
    found[:, 1].sum().backward()
    assert log_probs.grad is not None
    gradient = log_probs.grad.mean(dim=0)
    assert gradient[1] > 0 > gradient[0] and gradient[2] < 0


def test_training_marks_as_generation_does(shards) -> None:
    """From cached states and over candidates alone, the upper layers say what the whole marked model says there."""
    from watermark.embedding.conditioning import Conditioning
    from watermark.inference.steering import steered

    lm, pair, batch = started(shards)
    for attention in pair.embedder._message_attentions():
        torch.nn.init.normal_(attention.out.weight, generator=torch.Generator().manual_seed(1))
    signs = signs_of(pair, 4)
    with torch.no_grad():
        found = candidate_logits(lm, marked_states(lm, pair, batch, signs), batch.candidates).log_softmax(-1)
        with steered(pair.embedder.intervention(Conditioning(signs, torch.ones(4)))):
            whole = lm.model(input_ids=batch.ids[:, :-1]).logits[:, -24:].float()
    expected = whole.gather(2, batch.candidates).log_softmax(-1)
    assert (expected - batch.log_probs).abs().max() > 0.3, "the mark does nothing"
    assert (found - expected).abs().max() < 0.15  # half precision, of logits that lie several apart


def test_edited_texts_hold_what_was_drawn_or_is_foreign(shards) -> None:
    lm, _, batch = started(shards)
    ids = batch.candidates[..., 0]
    edited = edited_versions(batch, np.random.default_rng(1))
    found, new = apply_versions(lm, lm.embed(ids).float(), ids, edited)
    kept = (edited.origin != FOREIGN) & edited.valid
    assert kept.any() and (~kept & edited.valid).any()
    rows = torch.arange(4).unsqueeze(1).expand_as(new)
    assert torch.equal(new[kept], ids[rows[kept], edited.origin[kept]])
    assert torch.equal(found[edited.valid], lm.embed(new[edited.valid]).float())


def test_what_was_marked_is_read(shards) -> None:
    lm, pair, batch = started(shards)
    signs = signs_of(pair, 4)
    read = read_marked(lm, pair, batch, signs, np.random.default_rng(0), torch.Generator().manual_seed(0))
    assert read.clean.shape == (4, 24, pair.config.n) and read.edited.shape[0] == 4
    assert bool((read.divergence >= -1e-5).all()) and float(read.divergence.detach().mean()) > 0.001


def test_training_holds_the_divergence_and_lowers_what_detection_costs(shards, tmp_path: Path) -> None:
    settings = TrainingSettings(steps=80, learning_rate=3e-3, warmup=5, report_every=10, validate_every=80)
    trainer = train(shards, tmp_path / "run", settings)
    with (trainer.folder / "curves.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    assert rows[-1]["detection"] < rows[0]["detection"] - 0.05, rows
    # A layer that was just replaced begins far from the base model, and comes nearer.
    assert rows[-1]["divergence"] < max(1.5 * ResidualCourse.target, 0.9 * rows[0]["divergence"]), rows
    assert (rows[-1]["multiplier"] > rows[0]["multiplier"]) == (rows[0]["divergence"] > ResidualCourse.target)


def test_a_broken_off_run_ends_like_an_unbroken_one(shards, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(shards, tmp_path / "broken", stop_at=7)
    resumed, whole = train(shards, tmp_path / "broken"), train(shards, tmp_path / "whole")
    assert resumed.step == SETTINGS.steps
    assert resumed.course.state() == whole.course.state()
    a, b = resumed.pair.state_dict(), whole.pair.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
