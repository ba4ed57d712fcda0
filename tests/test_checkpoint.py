"""Checkpoints: saved and loaded they are the same; damaged or foreign ones are refused by name."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.fakes import fake_config, fake_lm
from watermark.checkpoint import load_pair, save_pair
from watermark.checkpoint_folder import CONFIG, WEIGHTS
from watermark.codebook.keys import IssuerKey
from watermark.errors import CheckpointError
from watermark.pair import build_pair
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import GenerationRequest, SamplingSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lm = fake_lm()
    save_pair(build_pair(fake_config(), lm, seed=5), lm, tmp_path / "pair")
    return tmp_path / "pair"


def test_saved_and_loaded_is_the_same(folder):
    lm = fake_lm()
    original, loaded = build_pair(fake_config(), lm, seed=5), load_pair(folder, lm)
    assert all(torch.equal(a, b) for a, b in zip(original.state_dict().values(), loaded.state_dict().values(), strict=True))
    key = IssuerKey("acme", b"k" * 32)
    request = GenerationRequest("The same", SamplingSettings(max_new_tokens=50, seed=1), key)
    models = [WatermarkedModel(lm, original.eval(), "original"), WatermarkedModel.load(fake_lm(), folder)]
    results = [model.generate([request])[0] for model in models]
    assert results[0] == results[1]
    verdicts = [model.verify([results[0].text], [key])[0] for model in models]
    assert verdicts[0] == verdicts[1]


def test_no_partial_files_are_left(folder):
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]


def test_another_model_of_the_same_shape_is_refused(folder):
    with pytest.raises(CheckpointError, match="other weights"):
        WatermarkedModel.load(fake_lm(seed=1), folder)


def test_a_model_of_another_shape_is_refused(folder):
    with pytest.raises(CheckpointError, match="hidden size is 64, not 32"):
        load_pair(folder, fake_lm(hidden_size=64))


def test_other_dtypes_of_the_same_model_are_welcome(folder):
    lm = fake_lm()
    lm.model.to(torch.bfloat16)
    WatermarkedModel.load(lm, folder)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: (f / WEIGHTS).unlink(), "model.safetensors"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-100]), "model.safetensors"),
        (lambda f: (f / WEIGHTS).write_bytes(b""), "model.safetensors"),
        (lambda f: (f / CONFIG).unlink(), "config.json"),
        (lambda f: (f / CONFIG).write_text("{"), "config.json"),
        (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "config.json"),
        (lambda f: change(f, hidden_size=None), "hidden_size"),
        (lambda f: change(f, format_version=99), "format version 99"),
        (lambda f: change(f, base_model=None), "base_model"),
        (lambda f: change(f, rounds=9), "does not fit its config.json"),
        (lambda f: change(f, query_layers=[2, 1]), "query_layers"),
        (lambda f: poison(f), "not finite"),
        (lambda f: rename(f), "does not fit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_named(folder, damage, named):
    damage(folder)
    with pytest.raises(CheckpointError, match=named):
        load_pair(folder, fake_lm())


def test_unknown_keys_warn(folder):
    change(folder, from_the_future=1)
    with pytest.warns(UserWarning, match="from_the_future"):
        load_pair(folder, fake_lm())


def test_a_clean_checkpoint_does_not_warn(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_pair(folder, fake_lm())


def change(folder: Path, **values: object) -> None:
    """Set keys of config.json; None removes one."""
    config = json.loads((folder / CONFIG).read_text()) | values
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def poison(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["attention.keys"][0, 0, 0] = float("nan")
    save_file(weights, folder / WEIGHTS)


def rename(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["something.else"] = weights.pop("attention.keys")
    save_file(weights, folder / WEIGHTS)
