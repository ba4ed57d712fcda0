"""`countersign train`: what the options mean. The training itself is tested in tests/training."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.fakes import fake_lm
from watermark.training.profiles import PROFILES


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The training replaced by a list that receives what it was called with."""
    calls: list[dict[str, Any]] = []

    def run_training(lm, config, corpus, out, features, profile, seed, advance, processes) -> dict[str, Any]:
        calls.append({"config": config, "features": features, "profile": profile, "seed": seed})
        advance("training", 1, 1, "")
        return {"seconds": {"training": 1}}

    monkeypatch.setattr("watermark.training.run.run_training", run_training)
    monkeypatch.setattr("models.registry.load_torch_model", lambda name, device="cpu": calls.append({"device": device}) or fake_lm())
    return calls


def test_a_profile_is_a_recipe_and_options_override_it(run: Run, asked: list, tmp_path) -> None:
    result = run("train", "--corpus", tmp_path, "--out", tmp_path / "pair", "--steps", 7, "--finished", 0, "--seed", 3, "--json")
    assert json.loads(result.stdout) == {"seconds": {"training": 1}}
    device, call = asked
    assert device == {"device": "cpu"} and call["seed"] == 3
    assert call["profile"] == replace(PROFILES["tournament"]["cpu"], steps=7, finished=0)
    assert call["features"] == tmp_path / "pair" / "features"
    run("train", "--corpus", tmp_path, "--out", tmp_path / "pair", "--profile", "gpu")
    assert asked[-1]["profile"] == PROFILES["tournament"]["gpu"] and asked[-2] == {"device": "cuda"}


def test_layers_follow_the_depth_of_the_model(run: Run, asked: list, tmp_path) -> None:
    run("train", "--corpus", tmp_path, "--out", tmp_path)
    assert asked[-1]["config"].query_layers == (0, 1)  # of three
    run("train", "--corpus", tmp_path, "--out", tmp_path, "--layers", "1,2")
    assert asked[-1]["config"].query_layers == (1, 2)


def test_the_token_codes_can_be_private(run: Run, asked: list, tmp_path) -> None:
    run("train", "--corpus", tmp_path, "--out", tmp_path)
    run("train", "--corpus", tmp_path, "--out", tmp_path, "--code-salt", "of my own")
    assert [call["config"].code_salt for call in asked if "config" in call] == ["countersign-1", "of my own"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--profile", "tpu"), "--profile must be cpu or gpu"),
        (("--layers", "0,3"), "3 layers"),
        (("--layers", "2,1"), "must rise"),
        (("--layers", "two"), "layer numbers"),
        (("--documents", "5"), "96"),
    ],
)
def test_bad_options_say_what_is_wrong(run: Run, asked: list, tmp_path, options: tuple[str, str], complaint: str) -> None:
    result = run("train", "--corpus", tmp_path, "--out", tmp_path, *options)
    assert result.exit_code != 0 and complaint in result.stderr
    assert not any("config" in call for call in asked)
