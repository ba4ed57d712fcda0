"""The last stage of training, on the fake model: texts are really written, edited as strings and read again."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.fakes import fake_config, fake_lm, fake_watermarked_model
from watermark.errors import InvalidInput
from watermark.training.features import FeatureSpec
from watermark.training.finished import FinishedSpec, edited_texts, finished_texts, read_finished
from watermark.training.profiles import PROFILES
from watermark.training.refinement import RefinementSettings, refine, z_scores
from watermark.training.run import run_training

SMALL = FeatureSpec(window=48, prompt=(4, 12), candidates=16, versions=3, shard=8)
SPEC = FinishedSpec(texts=16, length=80, versions=3)


@pytest.fixture
def model():
    return copy.deepcopy(fake_watermarked_model())


@pytest.fixture
def data(model, corpus, tmp_path):
    return finished_texts(model.lm, model.pair, corpus, tmp_path / "finished.safetensors", SPEC, lambda *progress: None)


def test_z_is_what_the_extractor_says_of_the_text(model):
    """The shortcut through cached features agrees with reading the text from its string."""
    texts = ["A line that somebody wrote, and then wrote again.", "", "Short."]
    data = read_finished(model.lm, model.pair, texts)
    signs = torch.randint(0, 2, (3, model.config.n), generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = z_scores(model.pair, model.lm.embed, {**data, "signs": signs, "text": torch.arange(3)}, torch.arange(3))
    for i, evidence in enumerate(model.evidence(texts)):
        total = torch.from_numpy(evidence.total()).float()
        expected = float(signs[i].float() @ total / total.norm().clamp(min=1e-6))
        assert float(found[i]) == pytest.approx(expected, abs=0.02)  # half precision


def test_written_texts_carry_their_codeword(model, data):
    whole = torch.arange(0, len(data["text"]), SPEC.versions + 1)
    z = z_scores(model.pair, model.lm.embed, data, whole)
    wrong = {**data, "signs": data["signs"].roll(1, 0)}
    assert float(z.mean()) > 3 > 1 > float(z_scores(model.pair, model.lm.embed, wrong, whole).mean())


def test_every_text_is_edited_in_its_own_ways(corpus):
    texts = [f"Text number {i} has some words, and then it ends." for i in range(6)]
    edited, origin = edited_texts(texts, corpus, SPEC)
    assert origin == [i for i in range(6) for _ in range(SPEC.versions + 1)]
    assert [edited[i] for i in range(0, len(edited), SPEC.versions + 1)] == texts
    assert edited == edited_texts(texts, corpus, SPEC)[0] != edited_texts(texts, corpus, dataclasses.replace(SPEC, seed=1))[0]


def test_refinement_keeps_the_best_weights_and_touches_the_reader_alone(model, data):
    attention = copy.deepcopy(model.pair.attention.state_dict())
    result = refine(model.pair, model.lm.embed, data, RefinementSettings(steps=40, rows=8, validate_every=10, learning_rate=1e-3))
    assert result.after["val_loss"] <= result.before["val_loss"]
    assert all(torch.equal(value, attention[name]) for name, value in model.pair.attention.state_dict().items())
    held_out = torch.nonzero(data["text"] % 8 == 0)[:, 0]
    z = z_scores(model.pair, model.lm.embed, data, held_out[held_out % (SPEC.versions + 1) == 0])
    assert float(z.detach().mean()) == pytest.approx(result.after["val_z_whole"], abs=1e-4)


def test_a_refinement_that_only_harms_changes_nothing(model, data):
    before = copy.deepcopy(model.pair.extractor.reader.state_dict())
    result = refine(model.pair, model.lm.embed, data, RefinementSettings(steps=5, rows=8, validate_every=5, learning_rate=10.0))
    assert result.step == 0 and result.after == result.before
    assert all(torch.equal(value, before[name]) for name, value in model.pair.extractor.reader.state_dict().items())


def test_the_whole_training_and_its_report(corpus, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("watermark.training.run.FeatureSpec", lambda **kw: dataclasses.replace(SMALL, **kw))
    recipe = dataclasses.replace(PROFILES["tournament"]["cpu"], documents=16, sampled=8, steps=4, texts=4, finished=8)
    stages: list[str] = []
    out = tmp_path / "run"

    def run():
        made = run_training(fake_lm(), fake_config(), corpus, out, out / "features", recipe, 0, lambda stage, *_: stages.append(stage))
        assert made is not None
        return made

    report = run()
    assert list(dict.fromkeys(stages)) == ["features", "training", "writing texts", "reading edited texts", "refinement"]
    assert json.loads((out / "training.json").read_text()) == report
    assert set(report["seconds"]) == {"features", "training", "refinement"} and report["refinement"]["before"]
    weights = (out / "model.safetensors").read_bytes()
    assert run()["refinement"] == report["refinement"] and (out / "model.safetensors").read_bytes() == weights


def test_one_text_is_too_few_to_hold_any_out(model, data):
    single = {**data, "signs": data["signs"][:1], "text": torch.zeros(1, dtype=torch.long)}
    with pytest.raises(InvalidInput, match="at least two"):
        refine(model.pair, model.lm.embed, single, RefinementSettings(steps=1))
