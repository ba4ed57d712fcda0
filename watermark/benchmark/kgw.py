"""KGW, the green list of Kirchenbauer et al. (ICML 2023; its seeding schemes: ICLR 2024), as transformers has it, with its defaults."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import WatermarkDetector, WatermarkingConfig
from transformers.generation.logits_process import WatermarkLogitsProcessor

from watermark.base_model import FrozenLM
from watermark.benchmark.decoding import Peer, Reweighting, token_rows
from watermark.benchmark.methods import NOTHING, Detection


def kgw(lm: FrozenLM, scheme: Literal["lefthash", "selfhash"] = "lefthash") -> Peer:
    """`selfhash` seeds by the candidate too: it is far slower, because each candidate needs a permutation of the vocabulary."""
    config = WatermarkingConfig(seeding_scheme=scheme)
    name = "kgw" if scheme == "lefthash" else "kgw-selfhash"
    settings = {"library": "transformers", **config.to_dict(), "ignore_repeated_ngrams": False}
    return Peer(lm, name, f"KGW {scheme} (transformers)", settings, lambda: _reweighting(lm, config), lambda: KgwDetector(lm, config))


def _reweighting(lm: FrozenLM, config: WatermarkingConfig) -> Reweighting:
    processor = WatermarkLogitsProcessor(lm.vocab_size, str(lm.device), **config.to_dict())

    def reweight(before: Tensor, ids: Tensor, probs: Tensor) -> Tensor:
        scores = torch.full((len(ids), lm.vocab_size), -torch.inf, device=ids.device).scatter(1, ids, probs.log())
        context: Any = before
        biased: Any = scores
        return processor(context, biased).gather(1, ids).softmax(dim=1)

    return reweight


class _Remembering(WatermarkDetector):
    """The library's detector, but a green list is made once for every token that others follow, not once for every pair of tokens.

    It counts, and tests, as the library does; a test compares the two.
    """

    def __init__(self, model_config: Any, device: str, config: WatermarkingConfig) -> None:
        super().__init__(model_config, device, config)
        self._green: dict[tuple[int, ...], bool] = {}
        self._get_ngram_score_cached: Any = self._remembered  # the library's own cache compares tensors by identity and never hits

    def learn(self, rows: Sequence[Sequence[int]]) -> None:
        """Look up all pairs of these texts, one green list at a time."""
        pairs = {pair for row in rows for pair in itertools.pairwise(row)} - self._green.keys()
        followers: dict[int, list[int]] = {}
        for token, follower in pairs:
            followers.setdefault(token, []).append(follower)
        for token, targets in followers.items():
            context: Any = torch.tensor([token], device=self.processor.rng.device)
            green = torch.zeros(self.processor.vocab_size, dtype=torch.bool, device=context.device)
            green[self.processor._get_greenlist_ids(context)] = True
            self._green.update(zip(((token, target) for target in targets), green[targets].tolist(), strict=True))

    def _remembered(self, prefix: Tensor, target: int) -> bool:
        if self.processor.seeding_scheme == "lefthash":
            return self._green[int(prefix[-1]), target]
        pair = tuple(prefix.tolist())  # selfhash: the target is the last token of its own prefix
        if pair not in self._green:
            context: Any = prefix
            self._green[pair] = bool((self.processor._get_greenlist_ids(context) == target).any())
        return self._green[pair]


class KgwDetector:
    """`WatermarkDetector` of transformers: z-score and its normal p-value."""

    def __init__(self, lm: FrozenLM, config: WatermarkingConfig) -> None:
        self.lm = lm
        self._width = config.context_width
        # A detector reads three fields of the model's configuration; texts come without a begin-of-text token.
        model = SimpleNamespace(bos_token_id=-1, is_encoder_decoder=False, vocab_size=lm.vocab_size)
        self._detector = _Remembering(model, str(lm.device), config)  # green lists differ between kinds of device

    def __call__(self, texts: Sequence[str], numbers: Sequence[int]) -> list[Detection]:
        rows = token_rows(self.lm, texts)
        if self._detector.processor.seeding_scheme == "lefthash":
            self._detector.learn(rows)
        return [self._detect(row) for row in rows]

    def _detect(self, row: list[int]) -> Detection:
        if len(row) <= self._width:
            return NOTHING
        ids: Any = torch.tensor([row], device=self.lm.device)
        found: Any = self._detector(ids, return_dict=True)
        return Detection(float(found.z_score[0]), float(found.p_value[0]))
