from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.fakes import fake_lm
from watermark import base_model
from watermark.half_precision import HalfLinear, halved


def test_a_halved_layer_rounds_to_eight_bits_and_answers_in_float32():
    linear, inputs = nn.Linear(64, 32), torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    exact, quick = linear(inputs), HalfLinear(linear)(inputs)
    assert quick.dtype == torch.float32
    error = (quick - exact).detach().norm() / exact.norm()
    assert 0 < error < 0.01


def test_halving_copies_nothing_but_linear_layers():
    model = fake_lm().trunk(2)
    quick = halved(model)
    assert any(isinstance(module, nn.Linear) for module in model.modules()), "the original keeps its layers"
    assert not any(isinstance(module, nn.Linear) for module in quick.modules())
    assert dict(quick.named_parameters())["embed_tokens.weight"] is dict(model.named_parameters())["embed_tokens.weight"]


@pytest.mark.parametrize("supported", [True, False])
def test_quick_states_are_nearly_the_exact_ones(monkeypatch, supported):
    monkeypatch.setattr(base_model, "pays_off", lambda: supported)
    lm = fake_lm(seed=3)
    ids = torch.tensor([lm.tokenize("A few words to be read.").ids])
    exact = lm.trunk_states(ids, torch.ones_like(ids), (0, 1, 2))
    quick = lm.trunk_states(ids, torch.ones_like(ids), (0, 1, 2), quick=True)
    assert torch.equal(exact[:, :, 0], quick[:, :, 0])
    assert torch.equal(exact, quick) is not supported
    assert float((quick - exact).norm() / exact.norm()) < 0.02
    # Nothing was changed for exact readers, nor for the model itself.
    assert torch.equal(lm.trunk_states(ids, torch.ones_like(ids), (0, 1, 2)), exact)
