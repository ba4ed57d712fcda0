"""The decoding loop against the plain model."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.fakes import fake_lm, fake_watermarked_model
from watermark.codebook.codewords import codeword
from watermark.codebook.keys import IssuerKey
from watermark.embedding.conditioning import Conditioning
from watermark.embedding.repeats import ContextMemory
from watermark.inference import torch_cache, torch_running
from watermark.inference.torch_lm import TorchLM
from watermark.pair import WatermarkPair
from watermark.sampling.candidates import BatchSettings, select_candidates
from watermark.sampling.decode import Row, RunningBatch, decode
from watermark.sampling.requests import SamplingSettings

SETTINGS = SamplingSettings(max_new_tokens=12, min_new_tokens=12)


def row(prompt: str, draw: int, settings: SamplingSettings = SETTINGS, key: IssuerKey | None = None) -> Row:
    signs = torch.from_numpy(codeword(key, 0, 0, 4, fake_watermarked_model().config.n)) if key else None
    uniforms = torch.rand(settings.max_new_tokens, generator=torch.Generator().manual_seed(draw)).double()
    return Row(fake_lm().tokenize(prompt).ids, settings, uniforms, signs)


class Recording(RunningBatch):
    """Keeps the logits and states of every step, by row."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.seen: dict[Row, list[tuple[torch.Tensor, torch.Tensor]]] = {}

        lm, embedder, layers = args
        self._model = lm.running(layers, torch.nn.Identity())
        step = self._model.step

        def recording(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits, states = step(tokens)
            for place, each in enumerate(self.rows):
                self.seen.setdefault(each, []).append((logits[place].clone(), states[place]))
            return logits, embedder.contexts(states)

        self._model.step = recording


@torch.inference_mode()
@pytest.mark.parametrize("window", [None, 6])
def test_joining_and_leaving_rows_see_what_the_full_forward_sees(monkeypatch, window):
    """Logits and query states of every step of rows that come, stop and are taken out at any time; prompts read in pieces."""
    monkeypatch.setattr(torch_running, "CHUNK_BESIDE", 4)
    monkeypatch.setattr(torch_running, "CHUNK", 7)
    monkeypatch.setattr(torch_cache, "REBASE", 9)
    lm, layers = sliding_lm(window), (0, 1, 2)
    rng = random.Random(5)
    batch = Recording(lm, fake_watermarked_model().pair.embedder, layers)
    rows: list[Row] = []
    for step in range(150):
        if step < 110 and len(batch) < 6 and rng.random() < 0.3:
            settings = SamplingSettings(max_new_tokens=rng.randint(1, 25), min_new_tokens=1)
            key = rng.choice([None, IssuerKey("one", b"1" * 32), IssuerKey("two", b"2" * 32)])
            coming = [row("y" * rng.choice([1, 2, 9, 30]), rng.randint(0, 99), settings, key) for _ in range(rng.randint(1, 3))]
            rows += coming
            batch.admit(coming, hurry=rng.random() < 0.3)
        if batch.rows and rng.random() < 0.05:
            batch.remove(rng.choice(batch.rows))
        batch.step()
    assert len(batch) == 0 and len(batch.seen) > 15
    for each, seen in batch.seen.items():
        full = lm.model(input_ids=torch.tensor([each.prompt_ids + each.ids]), output_hidden_states=True)
        for step, (logits, states) in enumerate(seen):
            at = len(each.prompt_ids) - 1 + step
            assert torch.allclose(logits, full.logits[0, at], atol=1e-4)
            assert torch.allclose(states, torch.stack([full.hidden_states[layer][0, at] for layer in layers]), atol=1e-4)


def test_rows_that_come_and_go_are_written_as_if_alone():
    lm, pair = fake_lm(), fake_watermarked_model().pair
    keys = [None, IssuerKey("one", b"1" * 32), IssuerKey("two", b"2" * 32)]

    def make() -> list[Row]:
        return [
            row("p" * (1 + 7 * i % 23), i, SamplingSettings(max_new_tokens=10 + 5 * i % 40, min_new_tokens=5), keys[i % 3])
            for i in range(12)
        ]

    alone = [decode(lm, pair.embedder, [each], pair.config.query_layers)[0] for each in make()]
    batch, waiting = RunningBatch(lm, pair.embedder, pair.config.query_layers), make()
    together = list(waiting)
    steps = 0
    while waiting or len(batch):
        if waiting and steps % 3 == 0:
            batch.admit([waiting.pop(0)])
        batch.step()
        steps += 1
    for a, b in zip(alone, together, strict=True):
        assert (a.ids, a.marked, a.stopped) == (b.ids, b.marked, b.stopped)
    assert sum(a.marked for a in alone) > 100


def test_a_row_taken_out_while_its_prompt_is_read_leaves_the_others():
    lm, pair = fake_lm(), fake_watermarked_model().pair
    batch = RunningBatch(lm, pair.embedder, pair.config.query_layers)
    first, gone, stays = row("first", 1), row("g" * 300, 2), row("s" * 290, 3)
    batch.admit([first], hurry=True)
    batch.admit([gone, stays])
    assert batch.step() == [first] and len(batch) == 3
    batch.remove(gone)
    batch.remove(gone)
    while len(batch):
        batch.step()
    assert gone.ids == [] and len(first.ids) == len(stays.ids) == 12
    assert stays.ids == decode(lm, pair.embedder, [row("s" * 290, 3)], pair.config.query_layers)[0].ids


def sliding_lm(window: int | None) -> TorchLM:
    """The fake model, its first two layers with a sliding window."""
    if window is None:
        return fake_lm()
    plain = fake_lm()
    config = Qwen3Config(
        **{k: v for k, v in plain.model.config.to_dict().items() if k in ("vocab_size", "hidden_size", "intermediate_size")},
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        initializer_range=0.2,
        use_sliding_window=True,
        sliding_window=window,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TorchLM(Qwen3ForCausalLM(config), plain.tokenizer, "fake-sliding")


@torch.inference_mode()
def test_one_prompt_with_several_messages_has_each_messages_own_distribution():
    """Before anything is sampled: the reweighted distribution of each row equals that of the row alone."""
    lm, pair = fake_lm(), fake_watermarked_model().pair
    assert isinstance(pair, WatermarkPair)
    ids = torch.tensor([lm.tokenize("one prompt").ids])
    output = lm.model(input_ids=ids, output_hidden_states=True)
    states = torch.stack([output.hidden_states[layer][:, -1] for layer in pair.config.query_layers], dim=1)
    candidates, probs = select_candidates(output.logits[:, -1], BatchSettings.stack([SamplingSettings()], lm.vocab_size))
    keys = [IssuerKey("one", b"1" * 32), IssuerKey("two", b"2" * 32), IssuerKey("three", b"3" * 32)]
    signs = torch.stack([torch.from_numpy(codeword(key, 0, 0, 4, pair.config.n)).float() for key in keys])
    strength = torch.tensor([1.0, 0.5, 0.0])

    def run(rows: slice) -> torch.Tensor:
        size = len(signs[rows])
        wide = pair.embedder.contexts(states).expand(size, -1, -1), candidates.expand(size, -1), probs.expand(size, -1)
        return pair.embedder(*wide, Conditioning(signs[rows], strength[rows]), ContextMemory(size, 1, pair.config.n))[0]

    together = run(slice(0, 3))
    for i in range(3):
        assert torch.allclose(together[i], run(slice(i, i + 1))[0], atol=1e-7)
    assert torch.equal(together[2], probs[0]), "strength 0 leaves the distribution as it is, to the bit"
    assert float((together[0] - together[1]).abs().max()) > 0.01


def test_end_of_text_stops_a_row_and_not_its_neighbours():
    model = fake_watermarked_model()
    # A uniform draw close to 0 takes the first candidate in order of ids; with all of the vocabulary kept that may be <eos>.
    settings = SamplingSettings(max_new_tokens=60, top_k=1024, temperature=10.0)
    patient = SamplingSettings(max_new_tokens=60, min_new_tokens=60, top_k=1024, temperature=10.0)
    low = torch.full((60,), 0.012, dtype=torch.float64)  # <bos> is id 0, <eos> id 1, each about a hundredth at this temperature
    first, second = decode(model.lm, model.pair.embedder, [Row([0], s, low) for s in (settings, patient)], model.config.query_layers)
    assert first.stopped and len(first.ids) < 60 and 1 not in first.ids
    assert not second.stopped and len(second.ids) == 60 and 1 not in second.ids
