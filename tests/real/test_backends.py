"""The default model on every backend: marks written by one are read by all, and the fast one computes nearly what the model does."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.backend_precision import divergences
from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_torch_model
from watermark.codebook.keys import IssuerKey
from watermark.inference.torch_lm import TorchLM
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import GenerationRequest, SamplingSettings

KEY, PAYLOAD = IssuerKey("acme", b"b" * 32, payload_bits=8), 0xA7
BACKENDS = ("openvino", "float32", "bfloat16")


@pytest.fixture(scope="module")
def float32() -> TorchLM:
    return load_torch_model(DEFAULT_BASE_MODEL)


@pytest.fixture(scope="module")
def models(real_model: WatermarkedModel, float32: TorchLM) -> dict[str, WatermarkedModel]:
    """bfloat16 is how a GPU runs it; the arithmetic is the same on a CPU, and slower."""
    checkpoint = default_checkpoint(DEFAULT_BASE_MODEL)
    half = TorchLM(copy.deepcopy(float32.model).to(torch.bfloat16), float32.tokenizer, "gemma3-270m in bfloat16")
    return {"openvino": real_model} | {
        name: WatermarkedModel.load(lm, checkpoint) for name, lm in (("float32", float32), ("bfloat16", half))
    }


@pytest.mark.parametrize("writer", BACKENDS)
def test_marks_of_one_backend_are_read_by_every_other(models, writer):
    assert models["openvino"].lm.backend == "openvino"
    prompts = ["The harbour was quiet that morning, and", "To install it, first"]
    sampling = SamplingSettings(max_new_tokens=150, min_new_tokens=150, seed=4)
    written = models[writer].generate([GenerationRequest(prompt, sampling, KEY, PAYLOAD) for prompt in prompts])
    for reader in BACKENDS:
        for verdict in models[reader].verify([each.text for each in written], [KEY]):
            assert (verdict.verdict, verdict.issuer, verdict.payload) == ("marked", "acme", "a7"), (writer, reader)
            assert verdict.p_value < 1e-9, (writer, reader, verdict.p_value)


def test_the_fast_backend_predicts_what_the_model_predicts(real_lm, float32, human_passages):
    """The bounds are the promise; docs/evaluation has the measurement, with more text than fits a test."""
    divergence, loss = divergences(float32, real_lm, human_passages[:12], 100)
    assert len(divergence) == 12
    assert 0 < divergence.mean() < 0.01
    assert abs(loss.mean()) < 0.01


def test_a_text_is_the_same_alone_and_in_a_batch(real_model):
    sampling = SamplingSettings(max_new_tokens=100, seed=7)
    prompts = [
        "Once",
        "The harbour was quiet that morning, and",
        "A recipe for bread. " * 20,
        "Dear reader, this week",
        "To install it, first",
    ]
    requests = [GenerationRequest(prompt, sampling, KEY, PAYLOAD) for prompt in prompts]
    together = [result.text for result in real_model.generate(requests)]
    assert together == [real_model.generate([request])[0].text for request in requests]
