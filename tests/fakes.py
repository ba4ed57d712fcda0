"""A tiny language model with random weights, and an untrained pair for it: for tests of plumbing only.

Everything around them is the real code; only the weights mean nothing. Deterministic, and built in about a second.
"""

from __future__ import annotations

import functools
import string
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from watermark.checkpoint import save_pair
from watermark.config import WatermarkConfig
from watermark.inference.torch_lm import TorchLM
from watermark.pair import build_pair
from watermark.pipeline import WatermarkedModel

SPECIAL = ["<bos>", "<eos>", "<pad>", "<unk>"]
LETTERS = [*string.ascii_letters, *string.digits, *string.punctuation, " ", "\n"]


def fake_tokenizer() -> PreTrainedTokenizerFast:
    """One token per ASCII character, so that what is written is what is read; anything else is unknown."""
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(SPECIAL + LETTERS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")


def saved_fake(folder: Path) -> WatermarkedModel:
    """The fake model written to `folder` as its users have theirs: a transformers folder."""
    model = fake_watermarked_model()
    assert isinstance(model.lm, TorchLM)
    model.lm.model.save_pretrained(folder)
    model.lm.tokenizer.save_pretrained(folder)
    return model


def saved_fake_and_pair(folder: Path) -> Path:
    """The fake model in `folder`/model and its pair in `folder`/pair; the folder again."""
    model = saved_fake(folder / "model")
    save_pair(model.pair, model.lm, folder / "pair")
    return folder


def fake_lm(seed: int = 0, hidden_size: int = 32) -> TorchLM:
    """A three-layer Llama with random weights; its next-token distribution is wide, so marks are easy to write."""
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(LETTERS),
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return TorchLM(model, fake_tokenizer(), f"fake-{seed}")


def fake_config(**changes: object) -> WatermarkConfig:
    """A small architecture for the fake model. With a hundred tokens in all, each one recurs: only near-equal contexts may count."""
    values = {"hidden_size": 32, "rounds": 8, "slots": 16, "query_layers": (0, 1, 2), "query_width": 64, "key_size": 8, "reader_width": 16}
    return WatermarkConfig.model_validate({**values, "repeat_threshold": 0.98, "token_threshold": 0.9, **changes})


@functools.cache
def fake_watermarked_model() -> WatermarkedModel:
    """The fake model with an untrained pair; shared by all tests, since it keeps no state."""
    lm = fake_lm()
    pair = build_pair(fake_config(), lm).eval().requires_grad_(False)
    return WatermarkedModel(lm, pair, "fake-untrained")
