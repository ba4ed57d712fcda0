"""Pairs of both kinds on the fake model, with everything open, so that marks are large and easy to see."""

from __future__ import annotations

import pytest
import torch

from tests.fakes import fake_lm
from watermark.config import ResidualConfig
from watermark.pair import ResidualPair, build_pair
from watermark.pipeline import WatermarkedModel

KINDS = ("gated", "substituted")
LAYERS = {"gated": (2, 3), "substituted": (2,)}


def small(kind: str, **changes: object) -> ResidualConfig:
    values = {"kind": kind, "layers": LAYERS[kind], "hidden_size": 32, "signs": 16, "slot_width": 16, "heads": 2, "key_size": 8}
    return ResidualConfig.model_validate({**values, "memory": 8, "reader_width": 16, "reader_heads": 2, "reader_layers": 1, **changes})


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> WatermarkedModel:
    lm = fake_lm()
    pair = build_pair(small(request.param), lm).eval().requires_grad_(False)
    assert isinstance(pair, ResidualPair)
    for attention in pair.embedder._message_attentions():
        torch.nn.init.normal_(attention.out.weight, generator=torch.Generator().manual_seed(1))
    return WatermarkedModel(lm, pair, f"fake-{request.param}")
