"""The property that everything rests on: over uniformly random codewords, the mean of what is sampled from is the model itself.

Checked by summing over *all* sign patterns of a small codeword, through the code that generation runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.fakes import fake_config, fake_lm
from watermark.embedding.conditioning import Conditioning
from watermark.embedding.repeats import ContextMemory
from watermark.embedding.reweighting import packed_scores, reweight, round_scores, tournament
from watermark.embedding.token_codes import TokenCodes
from watermark.pair import build_pair
from watermark.sampling.candidates import BatchSettings, select_candidates
from watermark.sampling.requests import SamplingSettings

ROUNDS, SLOTS = 4, 4


def all_sign_patterns(n: int) -> torch.Tensor:
    """(2^n, n)"""
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=n)))


def likened(attention: torch.Tensor, cosine: float, seed: int) -> torch.Tensor:
    """A vector of the shape of `attention` at a given cosine to it, at random otherwise."""
    unit = torch.nn.functional.normalize(attention.flatten(), dim=0)
    other = torch.randn(unit.shape, generator=torch.Generator().manual_seed(seed))
    other = torch.nn.functional.normalize(other - (other @ unit) * unit, dim=0)
    return (cosine * unit + (1 - cosine**2) ** 0.5 * other).view_as(attention)


@pytest.fixture(scope="module")
def pair():
    return build_pair(fake_config(rounds=ROUNDS, slots=SLOTS, key_size=4), fake_lm()).eval()


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingSettings(temperature=1.0, top_k=16, top_p=1.0),
        SamplingSettings(temperature=0.7, top_k=20, top_p=0.9),
        SamplingSettings(temperature=1.6, top_k=7, top_p=0.5),
    ],
    ids=lambda s: f"T{s.temperature}-k{s.top_k}-p{s.top_p}",
)
@pytest.mark.parametrize("drawn", [0, 3], ids=["first-step", "some-drawn-before"])
@torch.inference_mode()
def test_mean_over_all_codewords_is_the_models_distribution(pair, sampling, strength, drawn):
    """Also where tokens that were drawn before keep their probability: that depends on the text so far, not on the signs."""
    lm = fake_lm()
    ids = torch.tensor([lm.tokenize("The mean over all codewords").ids])
    output = lm.model(input_ids=ids, output_hidden_states=True)
    states = torch.stack([output.hidden_states[layer][:, -1] for layer in pair.config.query_layers], dim=1)
    candidates, probs = select_candidates(output.logits[:, -1], BatchSettings.stack([sampling], lm.vocab_size))

    attention = pair.attention(pair.normaliser(states))[0]
    alike = [likened(attention, 0.94, seed) for seed in range(drawn)]

    patterns = all_sign_patterns(pair.config.n)
    mean = torch.zeros_like(probs[0], dtype=torch.float64)
    moved = 0.0
    for block in patterns.split(8192):
        rows = len(block)
        memory = ContextMemory(rows, 4, pair.config.n)
        for k in range(drawn):  # contexts just above the likeness from which tokens count as drawn before
            contexts = alike[k].expand(rows, -1, -1).flatten(1).numpy()
            memory.check_and_add(np.ascontiguousarray(contexts), np.ones(rows, bool), pair.config.repeat_threshold)
            memory.record(np.ascontiguousarray(candidates[:, k].expand(rows).numpy()))
        reweighted, marked = pair.embedder(
            attention.unsqueeze(0).expand(rows, -1, -1),
            candidates.expand(rows, -1),
            probs.expand(rows, -1).contiguous(),
            Conditioning(block, torch.full((rows,), strength)),
            memory,
        )
        assert torch.equal(reweighted[:, :drawn], probs[:, :drawn].expand(rows, -1))
        assert marked.all()
        assert torch.allclose(reweighted.sum(dim=1), torch.ones(rows), atol=1e-5)
        assert (reweighted >= 0).all()
        moved += float((reweighted - probs).abs().sum())
        mean += reweighted.double().sum(dim=0)
    mean /= len(patterns)
    assert moved / len(patterns) > 0.05, "the codeword must matter, or the test shows nothing"
    assert torch.allclose(mean, probs[0].double(), atol=1e-6), float((mean - probs[0]).abs().max())


def test_scores_are_odd_in_the_signs_and_at_most_one_half():
    generator = torch.Generator().manual_seed(1)
    attention = torch.softmax(torch.randn(5, ROUNDS, SLOTS, generator=generator), dim=-1)
    signs = torch.randint(0, 2, (5, ROUNDS * SLOTS), generator=generator).float() * 2 - 1
    codes = torch.randint(0, 2, (5, 6, ROUNDS * SLOTS), generator=generator).float() * 2 - 1
    scores = round_scores(attention, signs, codes, 3.0)
    assert scores.shape == (5, ROUNDS, 6)
    assert scores.abs().max() <= 0.5
    assert torch.equal(scores, -round_scores(attention, -signs, codes, 3.0))
    products = [attention[2, 1, i] * signs[2, SLOTS + i] * codes[2, 4, SLOTS + i] for i in range(SLOTS)]
    by_hand = 0.5 * torch.tanh(3.0 * torch.stack(products).sum())
    assert torch.isclose(scores[2, 1, 4], by_hand)


@pytest.mark.parametrize(("rounds", "slots"), [(8, 32), (4, 16), (6, 4), (2, 12), (16, 2), (8, 1)])
def test_scores_of_packed_codes_are_those_of_codes(rounds: int, slots: int):
    """Whether a byte of a code lies within a round or spans several; alone as beside others, to the bit."""
    generator = torch.Generator().manual_seed(rounds)
    n, table = rounds * slots, np.random.default_rng(slots).integers(0, 256, (50, rounds * slots // 8), dtype=np.uint8)
    codes = TokenCodes(table)
    attention = torch.softmax(torch.randn(5, rounds, slots, generator=generator), dim=-1)
    signs = torch.randint(0, 2, (5, n), generator=generator).float() * 2 - 1
    ids = torch.randint(0, 50, (5, 7), generator=generator)
    found = packed_scores(attention.numpy(), signs.numpy(), table, ids.numpy(), 3.0)
    assert found.shape == (5, rounds, 7) and found.dtype == np.float32
    assert np.allclose(found, round_scores(attention, signs, codes(ids), 3.0).numpy(), atol=1e-6)
    alone = packed_scores(attention[2:3].numpy(), signs[2:3].numpy(), table, ids[2:3].numpy(), 3.0)
    assert np.array_equal(alone[0], found[2])
    with pytest.raises(IndexError, match="Token 50 is beyond"):
        packed_scores(attention.numpy(), signs.numpy(), table, np.full((5, 7), 50), 3.0)


def test_one_round_with_extreme_scores_keeps_a_distribution():
    probs = torch.tensor([[0.7, 0.2, 0.1, 0.0]])
    scores = torch.tensor([[[0.5, -0.5, 0.5, -0.5]]])
    result = tournament(probs, scores)
    mean = 0.5 * (0.7 + 0.1) - 0.5 * 0.2
    assert torch.allclose(result, probs * (1 + scores[0] - mean))
    assert result[0, 3] == 0.0, "a candidate that was cut off stays cut off"


def test_what_writes_text_reweights_as_what_is_trained():
    """And leaves alone what is kept and rows that are not marked, to the bit, whatever the others share."""
    generator = torch.Generator().manual_seed(2)
    probs = torch.softmax(3 * torch.randn(9, 40, generator=generator), dim=-1)
    probs[:, 30:] = 0.0
    probs /= probs.sum(dim=1, keepdim=True)
    scores = 0.5 * torch.tanh(torch.randn(9, 16, 40, generator=generator))
    kept = torch.rand(9, 40, generator=generator) < torch.linspace(0.0, 1.1, 9)[:, None]  # none in the first row, all in the last
    found, strength, marked = np.empty((9, 40), np.float32), torch.linspace(1.0, 0.2, 9), torch.arange(9) != 4
    reweight(probs.numpy(), scores.numpy(), strength.numpy(), marked.numpy(), kept.numpy(), found)
    kept |= ~marked[:, None]
    share = probs.masked_fill(kept, 0.0).sum(dim=1, keepdim=True)
    others = tournament(probs.masked_fill(kept, 0.0) / share.clamp(min=1e-30), scores * strength[:, None, None]) * share
    assert np.allclose(found, torch.where(kept, probs, others).numpy(), atol=1e-6)
    assert np.array_equal(found[kept.numpy()], probs.numpy()[kept.numpy()])
    assert np.allclose(found.sum(axis=1), 1.0, atol=1e-5) and kept[8].all() and not kept[0].any()
