"""Which backend a model gets, and what is made for it once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from models.converted import STAGES, convert_checked
from models.progress import Stages
from models.registry import load_base_model, prepare_conversion
from tests.fakes import fake_lm
from tests.test_base_model import tiny
from watermark.errors import BaseModelError, NotConvertible
from watermark.inference.openvino.files import EMBEDDING
from watermark.inference.openvino.lm import OpenVinoLM
from watermark.inference.torch_lm import TorchLM


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COUNTERSIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def saved(lm: TorchLM, folder: Path) -> Path:
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def test_the_cpu_gets_a_conversion_that_is_made_once(tmp_path: Path, own_cache: Path) -> None:
    folder = saved(fake_lm(), tmp_path / "model")
    lm = load_base_model(str(folder))
    assert isinstance(lm, OpenVinoLM) and lm.name == str(folder)
    made = prepare_conversion(str(folder))
    assert made.parent == own_cache / "openvino"
    before = (made / "body.bin").stat().st_mtime_ns
    assert prepare_conversion(str(folder)) == made and (made / "body.bin").stat().st_mtime_ns == before
    ids = lm.tokenize("Hello, world").ids
    wanted = fake_lm().read_states([ids], (0, 1, 2))
    assert float(torch.cosine_similarity(lm.read_states([ids], (0, 1, 2)), wanted, dim=-1).min()) > 0.999


def test_other_weights_in_the_same_folder_are_converted_anew(tmp_path: Path) -> None:
    folder = saved(fake_lm(), tmp_path / "model")
    first = prepare_conversion(str(folder))
    saved(fake_lm(seed=1), folder)
    os.utime(folder / "model.safetensors")
    assert prepare_conversion(str(folder)) != first


def test_the_backend_asked_for_is_the_backend_given(tmp_path: Path) -> None:
    folder = str(saved(fake_lm(), tmp_path / "model"))
    assert isinstance(load_base_model(folder, backend="torch"), TorchLM)
    assert isinstance(load_base_model(folder, backend="openvino"), OpenVinoLM)
    with pytest.raises(BaseModelError, match="openvino backend runs on the CPU, not on 'cuda'"):
        load_base_model(folder, backend="openvino", device="cuda")


def test_a_model_that_cannot_be_converted_runs_on_torch_and_says_so(tmp_path: Path) -> None:
    folder = str(saved(tiny("bloom"), tmp_path / "model"))
    with pytest.warns(UserWarning, match="cannot be converted.*It is used now, and is slower"):
        assert isinstance(load_base_model(folder), TorchLM)
    with pytest.raises(NotConvertible, match="bloom"):
        load_base_model(folder, backend="openvino")


def test_a_conversion_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from watermark.inference.openvino import convert

    def wrong(lm: TorchLM, target: Path) -> None:
        right(lm, target)
        np.save(target / EMBEDDING, np.load(target / EMBEDDING)[::-1])

    right = convert.convert
    monkeypatch.setattr(convert, "convert", wrong)
    folder = saved(fake_lm(), tmp_path / "model")
    (tmp_path / "target").mkdir()
    with pytest.raises(NotConvertible, match="does not compute what the model does"):
        convert_checked("fake", folder, tmp_path / "target", Stages("", STAGES, shown=False))


def test_a_damaged_model_is_not_taken_for_one_that_cannot_be_converted(tmp_path: Path, own_cache: Path) -> None:
    folder = saved(fake_lm(), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BaseModelError, match="weights file .* damaged") as caught:
        prepare_conversion(str(folder))
    assert not isinstance(caught.value, NotConvertible)
    assert not any(path.is_dir() for path in (own_cache / "openvino").iterdir()), "nothing half made is left"


def test_a_conversion_that_lost_a_file_is_made_again(tmp_path: Path) -> None:
    folder = saved(fake_lm(), tmp_path / "model")
    made = prepare_conversion(str(folder))
    (made / "head.bin").unlink()
    assert prepare_conversion(str(folder)) == made and (made / "head.bin").is_file()
