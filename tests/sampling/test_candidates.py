from __future__ import annotations

import numpy as np
import pytest
import torch

from watermark.errors import InvalidInput
from watermark.sampling.candidates import NO_TOKEN, BatchSettings, candidates_of, draw, select_candidates
from watermark.sampling.requests import SamplingSettings


def select(logits: torch.Tensor, *settings: SamplingSettings):
    return select_candidates(logits, BatchSettings.stack(settings, logits.shape[1]))


def test_matches_a_plain_softmax_over_the_kept_tokens():
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    ids, probs = select(logits, SamplingSettings(temperature=0.5, top_k=8), SamplingSettings(temperature=2.0, top_k=3))
    for row, (temperature, k) in enumerate([(0.5, 8), (2.0, 3)]):
        kept = logits[row].topk(k).indices
        expected = torch.zeros(50).scatter(0, kept, torch.softmax(logits[row, kept] / temperature, dim=0))
        assert torch.allclose(torch.zeros(50).scatter(0, ids[row], probs[row]), expected, atol=1e-6)
    assert (ids.diff(dim=1) > 0).all(), "candidates come in order of their ids"


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    _, probs = select(logits, SamplingSettings(top_k=4, top_p=0.8))
    assert torch.allclose(probs, torch.tensor([[0.625, 0.375, 0.0, 0.0]]), atol=1e-6)
    _, probs = select(logits, SamplingSettings(top_k=4, top_p=1e-9))
    assert torch.equal(probs, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("greedy", [SamplingSettings(temperature=0.0), SamplingSettings(top_k=1, temperature=5.0)])
def test_greedy_has_one_candidate(greedy):
    logits = torch.tensor([[1.0, 4.0, 2.0], [9.0, 1.0, 3.0]])
    ids, probs = select(logits, greedy, SamplingSettings(top_k=3))
    assert ids[0, probs[0] == 1.0].tolist() == [1]


def test_barred_tokens_are_as_if_they_were_not_there():
    """Those of a row are given up for the next likely ones; the other rows keep theirs."""
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    likeliest = logits[0].topk(12).indices
    barred = np.array([[int(likeliest[0]), int(likeliest[5])], [NO_TOKEN, NO_TOKEN], [0, NO_TOKEN]])
    settings = BatchSettings.stack([SamplingSettings(top_k=10, top_p=0.9)] * 3, 40)
    values, ids = logits.topk(12)
    found = [torch.zeros(3, 40).scatter(1, *candidates_of(values, ids, settings, b)) for b in (barred, None)]
    without = logits.clone()
    without[0, barred[0]] = without[2, 0] = -torch.inf
    expected = torch.zeros(3, 40).scatter(1, *select_candidates(without, settings))
    assert torch.allclose(found[0], expected, atol=1e-7) and not found[0][0, barred[0]].any()
    assert torch.equal(found[0][1], found[1][1]) and found[1][0, barred[0, 0]] > 0


def test_draw_follows_the_distribution_and_never_takes_a_zero():
    probs = torch.tensor([[0.0, 0.2, 0.0, 0.8, 0.0]])
    uniforms = torch.linspace(0, 1 - 1e-12, 1001, dtype=torch.float64)
    drawn = draw(probs.expand(1001, -1), uniforms)
    assert set(drawn.tolist()) == {1, 3}
    assert abs(float((drawn == 1).double().mean()) - 0.2) < 2e-3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"min_new_tokens": 201}, "min_new_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1025}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": float("nan")}, "top_p"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_named(change, named):
    with pytest.raises(InvalidInput, match=named):
        SamplingSettings(**change)
