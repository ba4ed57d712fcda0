"""Text marked by a peer, on our decoding loop: the same model, candidates and random numbers as for our own marks.

transformers applies a watermark behind temperature and top-k, so that of its scores only those of the candidates count. Working on the
candidates alone is therefore the same, and spares a peer the quarter of a million other tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from watermark.base_model import FrozenLM
from watermark.benchmark.methods import Detector, Order
from watermark.sampling.candidates import BatchSettings, candidates_of, draw
from watermark.sampling.decode import Row, alike
from watermark.sampling.requests import SamplingSettings

CONTEXT = 4
"""Tokens before the next one that a peer sees: SynthID needs four, the others one. A prompt has at least as many."""
LAYERS = (1,)
"""A running model hands out the states of some layer; peers read none."""

Reweighting = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The last tokens (B, CONTEXT), prompt included; candidate ids (B, K); their probabilities (B, K) → the probabilities to draw from.
One object serves one batch from its first token to its last, and may keep count."""


class Peer:
    """A method that reweights the candidates' probabilities. See `Method`."""

    def __init__(
        self,
        lm: FrozenLM,
        name: str,
        title: str,
        settings: dict[str, Any],
        reweighting: Callable[[], Reweighting],
        detector: Callable[[], Detector],
    ) -> None:
        self.lm, self.name, self.title, self.settings = lm, name, title, settings
        self._reweighting, self.detector = reweighting, detector

    def write(self, orders: Sequence[Order], sampling: SamplingSettings, *, marked: bool = True) -> list[list[int]]:
        return write(self.lm, orders, sampling, self._reweighting() if marked else None)


@torch.inference_mode()
def write(lm: FrozenLM, orders: Sequence[Order], sampling: SamplingSettings, reweighting: Reweighting | None) -> list[list[int]]:
    """All texts as one batch, `sampling.max_new_tokens` tokens each; no text ends before. Without reweighting it is what
    `WatermarkedModel.generate` writes unmarked with the same seeds."""
    count = sampling.max_new_tokens
    rows = []
    for order in orders:
        uniforms = torch.from_numpy(np.random.default_rng(order.seed).random(count))
        rows.append(Row(lm.tokenize(order.prompt).ids, replace(sampling, min_new_tokens=count, seed=order.seed), uniforms))
    with lm.computing():
        model, batch = lm.running(LAYERS), []
        for group in alike(rows):
            coming = model.begin([row.prompt_ids for row in group])
            while not coming.advance(True):
                pass
            model.join(coming)
            batch += group
        settings = BatchSettings.stack([row.sampling for row in batch], lm.vocab_size)
        ends = np.tile(np.array(lm.end_ids, np.int64), (len(batch), 1))
        before = torch.tensor([row.prompt_ids[-CONTEXT:] for row in batch], device=lm.device)
        for step in range(count):
            logits, _ = model.step(before[:, -1])
            likeliest = model.likeliest(logits, min(settings.width + len(lm.end_ids), lm.vocab_size))
            ids, probs = (found.to(lm.device) for found in candidates_of(*likeliest, settings, ends))
            if reweighting:
                probs = reweighting(before, ids, probs)
            uniforms = torch.stack([row.uniforms[step] for row in batch])
            token = ids.gather(1, draw(probs, uniforms).to(lm.device).unsqueeze(1))
            before = torch.cat([before[:, 1:], token], dim=1)
            for row, new in zip(batch, token[:, 0].tolist(), strict=True):
                row.ids.append(new)
    return [row.ids for row in rows]


def token_rows(lm: FrozenLM, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts as a verifier reads them, without a begin-of-text token."""
    tokens = [lm.tokenize(text) for text in texts]
    return [found.ids[found.prefix :] for found in tokens]
