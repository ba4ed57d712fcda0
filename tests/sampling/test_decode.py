"""The decoding loop against the plain model."""

from __future__ import annotations

import torch

from tests.fakes import fake_lm, fake_watermarked_model
from watermark.codebook.codewords import codeword
from watermark.codebook.keys import IssuerKey
from watermark.embedding.embedder import Conditioning
from watermark.embedding.repeats import ContextMemory
from watermark.sampling import decode as loop
from watermark.sampling.candidates import BatchSettings, select_candidates
from watermark.sampling.requests import SamplingSettings

PROMPTS = ["short", "a prompt that is rather longer", "x"]
SETTINGS = SamplingSettings(max_new_tokens=12, min_new_tokens=12)


@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward(monkeypatch):
    """Logits and query states of every step, rows padded on the left, prompt prefilled in chunks."""
    monkeypatch.setattr(loop, "PREFILL_CHUNK", 4)
    lm, layers = fake_lm(), (0, 1, 2)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    advance = loop._advance

    def record(*args):
        seen.append(advance(*args))
        return seen[-1][0].clone(), seen[-1][1]

    monkeypatch.setattr(loop, "_advance", record)
    prompts = [lm.tokenize(p).ids for p in PROMPTS]
    rows = [loop.Row(ids, SETTINGS, torch.rand(12, generator=torch.Generator().manual_seed(i)).double()) for i, ids in enumerate(prompts)]
    pair = fake_watermarked_model().pair
    off = Conditioning(torch.ones(3, pair.config.n), torch.zeros(3))
    decoded = loop.decode(lm, pair.embedder, rows, off, layers)
    for i, (ids, row) in enumerate(zip(prompts, decoded, strict=True)):
        full = lm.model(input_ids=torch.tensor([ids + row.ids]), output_hidden_states=True)
        for step in range(12):
            at = len(ids) - 1 + step
            logits, states = seen[step]
            assert torch.allclose(logits[i], full.logits[0, at], atol=1e-4)
            expected = torch.stack([full.hidden_states[layer][0, at] for layer in layers])
            assert torch.allclose(states[i], expected, atol=1e-4)


@torch.inference_mode()
def test_one_prompt_with_several_messages_has_each_messages_own_distribution():
    """Before anything is sampled: the reweighted distribution of each row equals that of the row alone."""
    lm, pair = fake_lm(), fake_watermarked_model().pair
    ids = torch.tensor([lm.tokenize("one prompt").ids])
    output = lm.model(input_ids=ids, output_hidden_states=True)
    states = torch.stack([output.hidden_states[layer][:, -1] for layer in pair.config.query_layers], dim=1)
    candidates, probs = select_candidates(output.logits[:, -1], BatchSettings.stack([SamplingSettings()], lm.vocab_size, lm.device))
    keys = [IssuerKey("one", b"1" * 32), IssuerKey("two", b"2" * 32), IssuerKey("three", b"3" * 32)]
    signs = torch.stack([torch.from_numpy(codeword(key, 0, 0, 4, pair.config.n)).float() for key in keys])
    strength = torch.tensor([1.0, 0.5, 0.0])

    def run(rows: slice) -> torch.Tensor:
        size = len(signs[rows])
        wide = states.expand(size, -1, -1), candidates.expand(size, -1), probs.expand(size, -1)
        return pair.embedder(*wide, Conditioning(signs[rows], strength[rows]), ContextMemory(size, 1, pair.config.n))[0]

    together = run(slice(0, 3))
    for i in range(3):
        assert torch.allclose(together[i], run(slice(i, i + 1))[0], atol=1e-7)
    assert torch.equal(together[2], probs[0]), "strength 0 leaves the distribution as it is, to the bit"
    assert float((together[0] - together[1]).abs().max()) > 0.01


def test_end_of_text_stops_a_row_and_not_its_neighbours():
    model = fake_watermarked_model()
    lm = model.lm
    off = Conditioning(torch.ones(2, model.config.n), torch.zeros(2))
    # A uniform draw close to 0 takes the first candidate in order of ids; with all of the vocabulary kept that may be <eos>.
    settings = SamplingSettings(max_new_tokens=60, top_k=1024, temperature=10.0)
    patient = SamplingSettings(max_new_tokens=60, min_new_tokens=60, top_k=1024, temperature=10.0)
    low = torch.full((60,), 0.012, dtype=torch.float64)  # <bos> is id 0, <eos> id 1, each about a hundredth at this temperature
    decoded = loop.decode(lm, model.pair.embedder, [loop.Row([0], s, low) for s in (settings, patient)], off, model.config.query_layers)
    assert decoded[0].stopped and len(decoded[0].ids) < 60 and 1 not in decoded[0].ids
    assert not decoded[1].stopped and len(decoded[1].ids) == 60 and 1 not in decoded[1].ids
