"""The embedder's own rules, on the fake model's pair."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tests.fakes import fake_watermarked_model
from watermark.embedding.conditioning import Conditioning
from watermark.embedding.repeats import ContextMemory
from watermark.pair import WatermarkPair


@pytest.fixture
def step():
    pair = fake_watermarked_model().pair
    generator = torch.Generator().manual_seed(0)
    return {
        "embedder": pair.embedder,
        "states": torch.randn(1, 3, 32, generator=generator),
        "candidates": torch.tensor([[3, 10, 20, 30]]),
        "probs": torch.tensor([[0.4, 0.3, 0.2, 0.1]]),
        "conditioning": Conditioning(torch.randint(0, 2, (1, pair.config.n), generator=generator).float() * 2 - 1, torch.ones(1)),
        "memory": ContextMemory(1, 4, pair.config.n),
    }


def run(step, **changes):
    values = {**step, **changes}
    embedder = values.pop("embedder")
    return embedder(embedder.contexts(values.pop("states")), **values)


@torch.inference_mode()
def test_a_repeated_context_is_left_alone(step):
    first, marked = run(step)
    assert bool(marked) and not torch.equal(first, step["probs"])
    second, marked = run(step)
    assert not bool(marked) and torch.equal(second, step["probs"])


@torch.inference_mode()
def test_a_single_candidate_is_not_marked(step):
    only = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    probs, marked = run(step, probs=only)
    assert not bool(marked) and torch.equal(probs, only)


@torch.inference_mode()
def test_a_token_drawn_before_in_a_similar_context_keeps_its_probability(step):
    """And the others share what is left, reweighted among themselves."""
    run(step)
    step["memory"].record(np.array([10]))
    near = step["states"] + 0.15 * torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(1))
    fresh, _ = run(step, states=near, memory=ContextMemory(1, 4, step["memory"].seen.shape[2]))
    again, marked = run(step, states=near)
    if not bool(marked):
        pytest.fail("the two contexts must be similar and not the same")
    assert not torch.allclose(fresh[0, 1], step["probs"][0, 1]), "a token that was not drawn before is reweighted"
    assert float(again[0, 1]) == float(step["probs"][0, 1])
    pair = fake_watermarked_model().pair
    assert isinstance(pair, WatermarkPair)
    attention = pair.attention(pair.normaliser(near))
    others = [0, 2, 3]
    scores = pair.embedder.scores(attention, step["conditioning"].signs, pair.codes(step["candidates"]))[..., others]
    expected = step["probs"][:, others] / 0.7
    for g in scores.unbind(1):
        expected = expected * (1 + g - (expected * g).sum())
    assert torch.allclose(again[:, others], expected * 0.7, atol=1e-6)
    assert float(again.sum()) == pytest.approx(1.0, abs=1e-6)


@torch.inference_mode()
def test_where_every_candidate_was_drawn_before_nothing_changes(step):
    memory, embedder = ContextMemory(1, 8, step["memory"].seen.shape[2]), copy.copy(step["embedder"])
    embedder.token_threshold = 0.3
    near = [step["states"] + 0.15 * torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    for states, token in zip(near, (3, 10, 20, 30), strict=False):
        run(step, embedder=embedder, states=states, memory=memory)
        memory.record(np.array([token]))
    probs, marked = run(step, embedder=embedder, states=near[4], memory=memory)
    assert bool(marked) and torch.equal(probs, step["probs"])


@torch.inference_mode()
def test_strength_scales_the_scores(step):
    n = step["memory"].seen.shape[2]
    moved = []
    for strength in (0.0, 0.25, 1.0):
        conditioning = Conditioning(step["conditioning"].signs, torch.tensor([strength]))
        probs, marked = run(step, conditioning=conditioning, memory=ContextMemory(1, 4, n))
        assert bool(marked) == (strength > 0)
        moved.append(float((probs - step["probs"]).abs().sum()))
    assert moved[0] == 0.0 < moved[1] < moved[2]
