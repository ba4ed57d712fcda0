"""Any decoder-only architecture: tiny random models of many families through the same doors."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.fakes import LETTERS, SPECIAL, fake_config, fake_lm, fake_tokenizer
from watermark.codebook.keys import IssuerKey
from watermark.errors import BaseModelError
from watermark.inference.torch_lm import TorchLM
from watermark.pair import build_pair
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import GenerationRequest, SamplingSettings

COMMON = {"vocab_size": len(SPECIAL) + len(LETTERS), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
LLAMA_LIKE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
SLIDING = {"head_dim": 8, "sliding_window": 16}
FAMILIES = {
    "llama": LLAMA_LIKE,
    "mistral": {**LLAMA_LIKE, "sliding_window": 16},
    "qwen2": LLAMA_LIKE,
    "qwen3": {**LLAMA_LIKE, "head_dim": 8},
    "gemma2": {**LLAMA_LIKE, **SLIDING},
    "gemma3_text": {**LLAMA_LIKE, **SLIDING, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "phi": LLAMA_LIKE,
    "olmo2": LLAMA_LIKE,
    "gpt_neox": {k: v for k, v in LLAMA_LIKE.items() if k != "num_key_value_heads"},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256},
    "bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    "opt": {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "word_embed_proj_dim": 32},
    "starcoder2": LLAMA_LIKE,
    "stablelm": LLAMA_LIKE,
}


def tiny(family: str) -> TorchLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **COMMON, **FAMILIES[family]))
    return TorchLM(model, fake_tokenizer(), family)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_trunk_and_generation_work_for_every_family(family):
    lm = tiny(family)
    ids = torch.tensor([lm.tokenize("Any decoder-only model must work, whatever its layers are called.").ids])
    trunk = lm.trunk_states(ids, torch.ones_like(ids), (0, 1, 2))
    full = lm.model(input_ids=ids, output_hidden_states=True).hidden_states
    assert len(full) == 4
    for layer in range(3):
        assert torch.allclose(trunk[:, :, layer], full[layer], atol=1e-5), layer
    model = WatermarkedModel(lm, build_pair(fake_config(), lm).eval(), "untrained")
    sampling = SamplingSettings(max_new_tokens=20, min_new_tokens=20, seed=3)
    prompts = ["Short", "A prompt that is longer than the other one"]
    requests = [GenerationRequest(prompt, sampling, IssuerKey("acme", b"k" * 32)) for prompt in prompts]
    together = model.generate(requests)
    assert [r.token_ids for r in together] == [model.generate([request])[0].token_ids for request in requests]


def test_an_unknown_architecture_is_named_with_what_to_do():
    lm = fake_lm()
    base = lm.model.base_model
    base.strata = base.layers
    del base.layers
    with pytest.raises(BaseModelError, match="Cannot find the decoder layers of 'fake-0'.*Add its names"):
        lm.trunk(1)


def test_special_tokens_spelled_out_are_plain_characters():
    lm = fake_lm()
    tokens = lm.tokenize("<bos>a<eos>")
    assert tokens.prefix == 1 and len(tokens.ids) == 1 + len("<bos>a<eos>")
    assert lm.decode(tokens.ids) == "<bos>a<eos>"


def test_nothing_is_trainable():
    assert not any(parameter.requires_grad for parameter in fake_lm().model.parameters())
