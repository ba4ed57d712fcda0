"""SynthID-Text (Dathathri et al., Nature 634:818, 2024) as transformers has it, with the settings that its authors publish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import SynthIDTextWatermarkingConfig, SynthIDTextWatermarkLogitsProcessor

from watermark.base_model import FrozenLM
from watermark.benchmark.decoding import Peer, Reweighting, token_rows
from watermark.benchmark.methods import NOTHING, Detection

KEYS = (654, 400, 836, 123, 340, 443, 597, 160, 57, 29, 590, 639, 13, 715, 468)
KEYS += (990, 966, 226, 324, 585, 118, 504, 421, 521, 129, 669, 732, 225, 90, 960)
"""The 30 keys, one for each layer of the tournament, of the authors' repository (synthid-text, `DEFAULT_WATERMARKING_CONFIG`)."""
AT_ONCE = 128
"""Texts scored together: the mask of repeated contexts holds the last 1,024 contexts of each."""


def synthid(lm: FrozenLM) -> Peer:
    config = SynthIDTextWatermarkingConfig(keys=list(KEYS), ngram_len=5)
    settings = {"library": "transformers", **config.to_dict(), "detector": "weighted mean of g-values"}

    def processor() -> _OnCandidates:
        return _OnCandidates(**config.to_dict(), device=lm.device)

    def reweighting() -> Reweighting:
        return processor().reweight

    return Peer(lm, "synthid", "SynthID (transformers)", settings, reweighting, lambda: SynthIDDetector(lm, processor()))


class _OnCandidates(SynthIDTextWatermarkLogitsProcessor):
    """The library's processor, which takes the whole vocabulary, restricted to candidates; a test compares the two."""

    def reweight(self, before: Tensor, ids: Tensor, probs: Tensor) -> Tensor:
        """One step of `__call__`. As there, the first contexts of a text are made of zeros instead of its prompt."""
        if self.state is None:
            self._init_state(len(ids))
        else:
            self.state.context = torch.cat([self.state.context, before[:, -1:]], dim=1)[:, 1:]
        state: Any = self.state
        state.num_calls += 1
        candidates: Any = ids
        keys, context = self._compute_keys(state.context, candidates)
        scores = self.update_scores(probs.log(), self.sample_g_values(keys))
        repeated = (state.context_history == context[:, None]).any(dim=1, keepdim=True)
        state.context_history = torch.cat([context[:, None], state.context_history], dim=1)[:, :-1]
        return torch.where(repeated, probs, scores.softmax(dim=1))


class SynthIDDetector:
    """The authors' weighted mean of g-values, repeated contexts left out, standardised by its deviation without a mark.

    Their mean-score detectors need no training; the Bayesian one must be trained for every key, and is left out. No p-value is
    published with it, so none is stated.
    """

    def __init__(self, lm: FrozenLM, processor: SynthIDTextWatermarkLogitsProcessor) -> None:
        self.lm, self._processor = lm, processor
        depth = len(KEYS)
        weights = torch.linspace(10, 1, depth)  # `weighted_mean_score` of the authors' repository
        self._weights = weights * depth / weights.sum()

    def __call__(self, texts: Sequence[str], numbers: Sequence[int]) -> list[Detection]:
        rows = token_rows(self.lm, texts)
        found: dict[int, Detection] = {}
        order = sorted((i for i, row in enumerate(rows) if len(row) >= self._processor.ngram_len), key=lambda i: len(rows[i]))
        for first in range(0, len(order), AT_ONCE):
            batch = order[first : first + AT_ONCE]
            found.update(zip(batch, self._detect([rows[i] for i in batch]), strict=True))
        return [found.get(i, NOTHING) for i in range(len(rows))]

    def _detect(self, rows: list[list[int]]) -> list[Detection]:
        """Padded on the right: an n-gram looks back only, and those that reach into the padding are not counted."""
        longest = max(map(len, rows))
        device = self.lm.device
        ids: Any = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
        scored = torch.tensor([len(row) for row in rows], device=device) - (self._processor.ngram_len - 1)
        inside = torch.arange(longest - (self._processor.ngram_len - 1), device=device) < scored[:, None]
        counted = (self._processor.compute_context_repetition_mask(ids) & inside).double()  # (B, T - 4)
        g = self._processor.compute_g_values(ids).double()  # (B, T - 4, depth)
        total = counted.sum(dim=1).clamp(min=1)
        mean = ((g * self._weights.to(device)).mean(dim=2) * counted).sum(dim=1) / total
        deviation = self._weights.square().sum().sqrt() / (2 * len(self._weights)) / total.sqrt()  # g is 0 or 1, evenly
        return [Detection(z, None) for z in ((mean - 0.5) / deviation).tolist()]
