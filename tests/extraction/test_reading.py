"""Reading texts: trunk, windows, batching, prefix sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.fakes import fake_lm, fake_watermarked_model
from watermark.errors import BaseModelError
from watermark.extraction import reading

TEXTS = ["", "a", "Plain words, and more of them than one.", "中文 🙂\x00", "abc " * 60, "x" * 97]


@torch.inference_mode()
def test_trunk_equals_the_full_model_before_its_final_norm():
    """A trunk cut by configuration would return its last state after the final norm."""
    lm = fake_lm()
    ids = torch.tensor([lm.tokenize("the very same hidden states").ids])
    full = lm.model(input_ids=ids, output_hidden_states=True)
    for depth in (1, 2):
        states = lm.trunk_states(ids, torch.ones_like(ids), tuple(range(depth + 1)))
        for layer in range(depth + 1):
            assert torch.allclose(states[:, :, layer], full.hidden_states[layer], atol=1e-6), (depth, layer)
    normed = lm.model.base_model(input_ids=ids).last_hidden_state
    assert not torch.allclose(states[:, :, 2], normed, atol=1e-2)


@torch.inference_mode()
def test_trunk_and_full_model_do_not_disturb_each_other():
    """Whichever runs first: the two share their layers, and with them the hooks that report hidden states."""
    ids = torch.tensor([fake_lm().tokenize("in either order").ids])
    first, second = fake_lm(), fake_lm()
    trunk = [first.trunk_states(ids, torch.ones_like(ids), (0, 1, 2))]
    full = [first.model(input_ids=ids, output_hidden_states=True).hidden_states]
    full.append(second.model(input_ids=ids, output_hidden_states=True).hidden_states)
    trunk.append(second.trunk_states(ids, torch.ones_like(ids), (0, 1, 2)))
    trunk.append(first.trunk_states(ids, torch.ones_like(ids), (0, 1, 2)))
    assert len(full[0]) == len(full[1]) == 4
    assert all(torch.equal(a, b) for a, b in zip(*full, strict=True))
    assert torch.equal(trunk[0], trunk[1]) and torch.equal(trunk[0], trunk[2])


def test_the_last_layer_is_refused():
    with pytest.raises(BaseModelError, match="below the last"):
        fake_lm().trunk(3)


def test_alone_equals_in_a_batch():
    model = fake_watermarked_model()
    together = model.evidence(TEXTS)
    for text, evidence in zip(TEXTS, together, strict=True):
        alone = model.evidence([text])[0]
        assert alone.offsets == evidence.offsets
        np.testing.assert_allclose(alone.per_token, evidence.per_token, atol=2e-3)
    assert together[0].tokens == 0
    assert [e.tokens for e in together[1:]] == [1, len(TEXTS[2]), 5, 240, 97]


def test_windows_cover_every_token_once(monkeypatch):
    """Evidence of a text that needs several windows: as many rows as tokens, each token's own, none left empty."""
    monkeypatch.setattr(reading, "WINDOW", 32)
    monkeypatch.setattr(reading, "CONTEXT", 16)
    model = fake_watermarked_model()
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz ,.ABCDEFGH"), size=150))
    windowed = model.evidence([text, "between", text[:33]])
    assert windowed[0].tokens == 150
    assert (np.abs(windowed[0].per_token).sum(axis=1) > 0).mean() > 0.8
    # The first window has the very same context as the whole text.
    monkeypatch.undo()
    whole = model.evidence([text])[0]
    np.testing.assert_allclose(windowed[0].per_token[:32], whole.per_token[:32], atol=2e-3)


def test_offsets_point_at_the_tokens():
    evidence = fake_watermarked_model().evidence([TEXTS[2]])[0]
    assert "".join(TEXTS[2][a:b] for a, b in evidence.offsets) == TEXTS[2]


def test_evidence_reads_past_what_no_reader_sees():
    """Hidden characters and lookalikes leave the evidence as it was; its offsets point into the text as it was given."""
    model, clean = fake_watermarked_model(), TEXTS[2]
    dirty = "\u200b" + "".join(c + "\u200d\u00ad" * (i % 3 == 0) for i, c in enumerate(clean)).replace("an", "аn").replace(" ", "\u00a0")
    expected, found = model.evidence([clean, dirty])
    np.testing.assert_array_equal(found.per_token, expected.per_token)
    assert len(dirty) > len(clean) + 10 and "а" in dirty
    seen = "".join(dirty[start:end] for start, end in found.offsets)
    assert seen.replace("а", "a").replace("\u00a0", " ") == clean
    assert all(end == start + 1 for start, end in found.offsets)
