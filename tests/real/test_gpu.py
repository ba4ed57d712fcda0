"""The default model on a GPU, in bfloat16, its steps recorded; skipped where there is none."""

from __future__ import annotations

import warnings

import pytest
import torch

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_torch_model
from watermark.codebook.keys import IssuerKey
from watermark.inference.torch_running import TorchRunning
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import GenerationRequest, SamplingSettings

KEY, PAYLOAD = IssuerKey("acme", b"b" * 32, payload_bits=8), 0xA7

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")


@pytest.fixture(scope="module")
def on_gpu() -> WatermarkedModel:
    return WatermarkedModel.load(load_torch_model(DEFAULT_BASE_MODEL, device="cuda"), default_checkpoint(DEFAULT_BASE_MODEL))


def requests() -> list[GenerationRequest]:
    prompts = ["The harbour was quiet that morning, and", "To install it, first", "Once", "A recipe for bread. " * 20]
    return [
        GenerationRequest(prompt, SamplingSettings(max_new_tokens=150, min_new_tokens=150, seed=seed), KEY, PAYLOAD)
        for seed, prompt in enumerate(prompts)
    ]


def test_recorded_steps_write_marks_that_a_cpu_reads(on_gpu, real_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "cannot be stepped through as a CUDA graph"
        session = on_gpu.session()
        written = session.admit(requests(), hurry=True)
        while len(session):
            session.step()
    model = session._batch._model
    assert isinstance(model, TorchRunning) and model._recorded is not None and model.lm.recordable
    texts = [each.result.text for each in written if each.result]
    assert len(texts) == 4
    for reader in (real_model, on_gpu):
        for verdict in reader.verify(texts, [KEY]):
            assert (verdict.verdict, verdict.issuer, verdict.payload) == ("marked", "acme", "a7")
            assert verdict.p_value < 1e-6


@torch.inference_mode()
def test_a_recorded_step_is_the_plain_step(on_gpu, monkeypatch):
    """But for the rounding of bfloat16; while buffers move and a text leaves its place to another."""
    recorded, plain = models = [on_gpu.lm.running((0, 2, 6)) for _ in range(2)]
    plain._recorded = None
    times, record = [], recorded._recorded._record
    monkeypatch.setattr(recorded._recorded, "_record", lambda step: times.append(1) or record(step))

    def join(prompts: list[list[int]]) -> None:
        for model in models:
            coming = model.begin(prompts)
            while not coming.advance(hurry=True):
                pass
            model.join(coming)

    join([[2, *range(500, 530)], [2, *range(700, 790)], [2, *range(900, 905)]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "cannot be stepped through as a CUDA graph"
        for step in range(250):
            if step == 80:
                for model in models:
                    model.remove(0)
            if step == 120:
                join([[2, *range(300, 420)]])
            tokens = torch.arange(1000 + step, 1000 + step + (2 if 80 <= step < 120 else 3), device="cuda")
            found, wanted = (torch.log_softmax(model.step(tokens)[0], dim=-1).clone() for model in models)
            assert float((wanted.exp() * (wanted - found)).sum(dim=-1).max()) < 0.1, step
    assert on_gpu.lm.recordable
    assert 1 < len(times) < 20
