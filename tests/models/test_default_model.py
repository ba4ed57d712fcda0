"""The default base model itself. The first run on a machine converts it, which takes minutes; later ones read the cache."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from models.registry import DEFAULT_BASE_MODEL, REGISTRY, load_torch_model, prepare_base_model
from watermark.inference.torch_lm import TorchLM


@pytest.fixture(scope="module")
def lm() -> TorchLM:
    return load_torch_model(DEFAULT_BASE_MODEL, progress=False)


pytestmark = pytest.mark.timeout(900)


def test_it_is_the_model_it_says(lm: TorchLM) -> None:
    assert (lm.model_type, lm.hidden_size, lm.layer_count, lm.vocab_size) == ("gemma3_text", 640, 18, 262_144)
    assert lm.context_size == 32_768 and lm.end_ids == (1,)
    assert {p.dtype for p in lm.model.parameters()} == {torch.float32}
    assert sum(p.numel() for p in lm.model.parameters()) == 268_098_176  # tied: the table of tokens counts once
    assert not getattr(lm.model.config, "quantization_config", None)


def test_it_writes_english(lm: TorchLM) -> None:
    ids = torch.tensor([lm.tokenize("The capital of France is").ids])
    with torch.inference_mode():
        written = lm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert lm.decode(written[0, ids.shape[1] :].tolist()) == " the capital of the country of France. It is the largest"


@pytest.mark.parametrize(
    "text", ["Hello  world\n\n\n  x", "emoji 🦉 👩‍👩‍👧 ünï ñ", "日本語 عربى हिन्दी", "tabs\t\tand\x00nul", "  leading", "a" * 300]
)
def test_text_survives_the_tokenizer_with_offsets(lm: TorchLM, text: str) -> None:
    tokens = lm.tokenize(text)
    assert tokens.prefix == 1 and tokens.ids[0] == 2
    assert lm.decode(tokens.ids) == text
    spans = tokens.offsets[tokens.prefix :]
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)
    assert {i for start, end in spans for i in range(start, end)} == set(range(len(text)))  # every character belongs to a token


def test_a_second_start_takes_seconds() -> None:
    """In a process of its own, imports included: about 7 s on an idle core. The bound allows for a busy machine."""
    folder = prepare_base_model(DEFAULT_BASE_MODEL)
    start = time.monotonic()
    code = f"from models.registry import load_torch_model; print(load_torch_model({DEFAULT_BASE_MODEL!r}).layer_count)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert ran.stdout == "18\n" and ran.stderr == ""
    assert time.monotonic() - start < 60
    assert REGISTRY[DEFAULT_BASE_MODEL].package.sha256[:12] in folder.name
