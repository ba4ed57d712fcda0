"""Folders of transformers files: the good one, and a sentence of its own for every way to be unusable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertLMHeadModel, T5Config, T5ForConditionalGeneration

from models.registry import load_torch_model
from tests.fakes import fake_lm
from watermark.errors import BaseModelError


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    lm = fake_lm()
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "model")


def reason(folder: Path, device: str = "cpu") -> str:
    with pytest.raises(BaseModelError) as caught:
        load_torch_model(str(folder), device=device)
    assert repr(str(folder)) in str(caught.value)  # says which model
    return str(caught.value)


def test_a_folder_loads_as_the_same_model(folder: Path, capfd: pytest.CaptureFixture) -> None:
    lm, other = load_torch_model(str(folder)), fake_lm()
    assert lm.name == str(folder)
    ids = lm.tokenize("Hello, world").ids
    assert ids == other.tokenize("Hello, world").ids and lm.decode(ids) == "Hello, world"
    with torch.inference_mode():
        assert torch.equal(lm.model(torch.tensor([ids])).logits, other.model(torch.tensor([ids])).logits)
    assert not any(p.requires_grad for p in lm.model.parameters()) and not lm.model.training
    assert lm.tokenizer_digest() == other.tokenizer_digest()
    said = capfd.readouterr()
    assert said.out + said.err == ""  # transformers' own bars and notes are off


def test_half_precision_weights_come_out_as_float32(folder: Path) -> None:
    fake_lm().model.to(torch.bfloat16).save_pretrained(folder)
    assert {p.dtype for p in load_torch_model(str(folder)).model.parameters()} == {torch.float32}


def test_no_folder(tmp_path: Path) -> None:
    for name in (str(tmp_path / "nothing"), "./nothing", "../nothing/here"):
        with pytest.raises(BaseModelError, match="existing folder"):
            load_torch_model(name)


@pytest.mark.parametrize(
    ("file", "what"),
    [("config.json", "lacks config.json"), ("model.safetensors", "lacks weights"), ("tokenizer.json", "lacks a tokenizer")],
)
def test_what_is_missing_is_named(folder: Path, file: str, what: str) -> None:
    (folder / file).unlink()
    assert what in reason(folder)


def test_damaged_files(folder: Path) -> None:
    for name, what in [("config.json", "config.json"), ("tokenizer.json", "tokenizer"), ("model.safetensors", "weights file .* damaged")]:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(BaseModelError, match=what):
            load_torch_model(str(folder))
        (folder / name).write_bytes(content)
    assert load_torch_model(str(folder)).layer_count == 3


def test_an_encoder_decoder_is_refused(folder: Path) -> None:
    config = T5Config(vocab_size=128, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    assert "encoder-decoder" in reason(folder)


def test_an_encoder_that_poses_as_a_language_model_is_refused(folder: Path) -> None:
    config = BertConfig(vocab_size=128, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertLMHeadModel(config).save_pretrained(folder)
    assert "tokens see those behind them" in reason(folder)


def test_an_unknown_architecture(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    assert "no-such-model" in reason(folder)


def test_weights_that_lack_a_tensor_are_not_filled_with_noise(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight missing" in reason(folder)


def test_weights_of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    assert "mlp" in reason(folder) or "size" in reason(folder)


def test_tokenizer_and_weights_that_do_not_belong_together(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:50].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 50}))
    assert "do not belong together" in reason(folder)


def test_a_tokenizer_without_a_fast_version(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps({"<unk>": 0, "a": 1, "b": 2}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CTRLTokenizer"}))
    assert "no fast" in reason(folder)


def test_a_device_that_is_not_there(folder: Path) -> None:
    assert "device 'nonsense'" in reason(folder, "nonsense")
    if not torch.cuda.is_available():
        assert "device 'cuda'" in reason(folder, "cuda")
