"""The divergence of marks that act inside the model, on the fake one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.fakes import fake_lm, fake_watermarked_model
from tests.residual.conftest import small
from watermark.benchmark.divergence import divergence
from watermark.benchmark.methods import Order
from watermark.benchmark.ours import Ours
from watermark.evaluation.generation import WorkFolder, WrittenText
from watermark.pair import ResidualPair, build_pair
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import SamplingSettings


def gated(size: float) -> Ours:
    lm = fake_lm()
    pair = build_pair(small("gated"), lm).eval().requires_grad_(False)
    assert isinstance(pair, ResidualPair)
    for attention in pair.embedder._message_attentions():
        torch.nn.init.normal_(attention.out.weight, std=size, generator=torch.Generator().manual_seed(1))
    return Ours(WatermarkedModel(lm, pair, "fake-gated"), "digest", 0)


def written(method: Ours, count: int = 3) -> list[WrittenText]:
    orders = [Order(i, f"prompt {i}", 10 + i) for i in range(count)]
    found = method.write(orders, SamplingSettings(max_new_tokens=20))
    return [
        WrittenText(20, order.number, True, "s", order.prompt, method.model.lm.decode(ids), tuple(ids), None, order.seed)
        for order, ids in zip(orders, found, strict=True)
    ]


@pytest.mark.parametrize(("size", "low", "high"), [(0.0, -1e-6, 1e-6), (1.0, 1e-3, 10.0)])
def test_the_divergence_is_that_of_the_mark(tmp_path: Path, size: float, low: float, high: float) -> None:
    method = gated(size)
    work = WorkFolder(tmp_path, method.settings)
    found = divergence(method, written(method), work, seed=0, progress=lambda *_: None)
    assert found is not None and found["n"] == 3 and low <= found["nats"] <= high
    assert len(work.read("divergence.jsonl")) == 3


def test_texts_on_record_are_not_measured_again(tmp_path: Path) -> None:
    method = gated(1.0)
    work, texts = WorkFolder(tmp_path, method.settings), written(method)
    first = divergence(method, texts, work, seed=0, progress=lambda *_: None)
    method.model.pair.embedder.requires_grad_(False).float()
    torch.nn.init.zeros_(next(iter(method.model.pair.embedder.parameters())))
    assert divergence(method, texts, work, seed=0, progress=lambda *_: None) == first


def test_the_default_kind_has_none(tmp_path: Path) -> None:
    method = Ours(fake_watermarked_model(), "digest", 0)
    assert divergence(method, [], WorkFolder(tmp_path, method.settings), seed=0, progress=lambda *_: None) is None
