"""Calibration from end to end with the fake model, and its file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import fake_watermarked_model
from watermark.calibration import build
from watermark.calibration.build import CalibrationSettings, Kind, calibrate
from watermark.calibration.file import FILE, Calibration, fingerprint, load_calibration
from watermark.calibration.prefixes import prefix_evidence
from watermark.checkpoint import save_pair
from watermark.checkpoint_folder import weights_digest
from watermark.codebook.keys import IssuerKey
from watermark.errors import CheckpointError, InvalidInput
from watermark.pipeline import WatermarkedModel

PLAIN = [f"Number {i}: the quick brown fox jumps over the lazy dog, again and again, {i * i} times before noon. " * 6 for i in range(130)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "plain.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in PLAIN))
    return path


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Calibration, Path, list[str]]:
    work = tmp_path_factory.mktemp("work")
    stages: list[str] = []
    found = calibrate(
        fake_watermarked_model(), [Kind("plain", corpus, 120)], work, CalibrationSettings(written=24), lambda s, d, t: stages.append(s)
    )
    return found, work, stages


def test_what_is_in_it(made: tuple[Calibration, Path, list[str]]) -> None:
    calibration, _, stages = made
    assert calibration.sample.kinds == ("plain", "model")
    assert calibration.made["texts"]["plain"]["256"] == 120  # type: ignore[index]
    assert len(calibration.fingerprints) == 120 + 24 and fingerprint(PLAIN[0]) == fingerprint(PLAIN[0])
    assert {"unmarked, plain", "writing, marked", "marked"} <= set(stages)
    power = calibration.power
    assert power.exponents.shape == (24, len(power.lengths)) and power.lengths[-1] >= 100
    assert np.nanmedian(power.exponents[:, -1]) > np.nanmedian(power.exponents[:, 2]) > 0  # longer texts carry more
    assert power.expected_detection(200, false_positive_rate=1e-3, payload_bits=0, units=16) > 0.8


def test_a_second_run_uses_what_is_there(made, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration, work, _ = made

    def never(*_: object, **__: object) -> None:
        raise AssertionError("read or written again")

    model = fake_watermarked_model()
    monkeypatch.setattr(type(model), "evidence", never)
    monkeypatch.setattr(build, "write_marked", never)
    again = calibrate(model, [Kind("plain", corpus, 120)], work, CalibrationSettings(written=24), lambda *_: None)
    assert np.array_equal(again.sample.directions, calibration.sample.directions)
    assert np.array_equal(again.power.exponents, calibration.power.exponents, equal_nan=True)


def test_another_selection_needs_another_folder(made, corpus: Path) -> None:
    with pytest.raises(InvalidInput, match="other texts"):
        calibrate(fake_watermarked_model(), [Kind("plain", corpus, 50)], made[1], CalibrationSettings(written=24), lambda *_: None)


def test_files_that_may_be_in_disorder_are_refused(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("watermark.calibration.file.FORMAT_VERSION", 1)
        made[0].save(tmp_path, "0" * 64)
    with pytest.raises(CheckpointError, match="format version 1; .*Make it again with: countersign calibrate"):
        load_calibration(tmp_path, "0" * 64, made[0].sample.directions.shape[1])


def test_the_file_belongs_to_its_weights(made, tmp_path: Path) -> None:
    calibration, _, _ = made
    model = fake_watermarked_model()
    save_pair(model.pair, model.lm, tmp_path / "c")
    digest = weights_digest(tmp_path / "c")
    assert load_calibration(tmp_path / "c", digest, model.config.n) is None
    calibration.save(tmp_path / "c", digest)
    loaded = WatermarkedModel.load(model.lm, tmp_path / "c").calibration
    assert loaded is not None and loaded.made == calibration.made
    for name in ("directions", "scale", "length", "kind", "text"):
        assert np.array_equal(getattr(loaded.sample, name), getattr(calibration.sample, name)), name
    assert np.array_equal(loaded.power.exponents, calibration.power.exponents, equal_nan=True)
    assert np.array_equal(loaded.fingerprints, calibration.fingerprints)
    with pytest.raises(CheckpointError, match="other weights"):
        load_calibration(tmp_path / "c", "0" * 64, model.config.n)
    shutil.copyfile(tmp_path / "c" / "model.safetensors", tmp_path / "c" / FILE)
    with pytest.raises(CheckpointError, match="Cannot read"):
        WatermarkedModel.load(model.lm, tmp_path / "c")


def test_verdicts_use_it(made) -> None:
    """Reported p-values are never below the exact ones, and a short text's expected detection is stated."""
    plain = fake_watermarked_model()
    model = WatermarkedModel(plain.lm, plain.pair, plain.name, made[0])
    key = IssuerKey("a", bytes(range(32)))
    verdicts = model.verify(PLAIN[:20], [key])
    assert all(v.p_value >= v.exact_p_value for v in verdicts) and any(v.p_value > v.exact_p_value for v in verdicts)
    short = model.verify(["Too few."], [key])[0]
    assert short.verdict == "insufficient_text" and short.expected_detection is not None and short.expected_detection < 0.95
    assert made[0].health(key, model.config.nonce_bits).distance > 0


def test_refusals(made, corpus: Path, tmp_path: Path) -> None:
    model, settings = fake_watermarked_model(), CalibrationSettings(written=24)
    with pytest.raises(InvalidInput, match="at least one kind"):
        calibrate(model, [], tmp_path, settings, lambda *_: None)
    with pytest.raises(InvalidInput, match="each once"):
        calibrate(model, [Kind("a", corpus, 5), Kind("a", corpus, 5)], tmp_path, settings, lambda *_: None)
    with pytest.raises(InvalidInput, match="at least 20"):
        replace(settings, written=3)


def test_prefix_evidence_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from watermark.calibration import prefixes

    monkeypatch.setattr(prefixes, "SHARD", 10)
    model, texts, calls = fake_watermarked_model(), PLAIN[:30], []

    def read(batch):
        calls.append(len(batch))
        return model.evidence(batch)

    class Stop(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done == 20:
            raise Stop

    with pytest.raises(Stop):
        prefix_evidence(read, texts, [8, 64], tmp_path, "x", stop)
    found = prefix_evidence(read, texts, [8, 64], tmp_path, "x", lambda *_: None)
    assert calls == [10, 10, 10]
    evidence, rows = found.at(64)
    whole = model.evidence([texts[7]])[0]
    np.testing.assert_allclose(evidence[rows.tolist().index(7)], whole.per_token[:64].sum(axis=0, dtype=np.float32), rtol=2e-3, atol=2e-2)
