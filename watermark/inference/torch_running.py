"""A running batch through transformers' own forward pass, on any device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from watermark.inference.likeliest import likeliest
from watermark.inference.running import CHUNK, CHUNK_BESIDE
from watermark.inference.steering import is_steered
from watermark.inference.torch_cache import RunningCache
from watermark.inference.torch_graph import RecordedSteps, cuda_graph

if TYPE_CHECKING:
    from watermark.inference.torch_lm import TorchLM


class TorchRunning:
    """See `RunningModel`."""

    def __init__(self, lm: TorchLM, layers: tuple[int, ...], network: nn.Module | None) -> None:
        self.lm, self.layers, self.network = lm, layers, network
        self._cache = self._empty()
        self._recorded = RecordedSteps(lm, layers, network, cuda_graph(lm.device)) if lm.device.type == "cuda" else None

    def _empty(self) -> RunningCache:
        return RunningCache(self.lm.model.config, self.lm.name)

    def begin(self, prompts: Sequence[Sequence[int]]) -> TorchComing:
        return TorchComing(self.lm, self._empty(), prompts)

    def join(self, coming: TorchComing) -> None:
        if not self._cache.lengths:
            self._cache = coming.cache
            return
        for place in range(len(coming.prompts)):
            self._cache.take(coming.cache, place)

    def remove(self, place: int) -> None:
        self._cache.remove(place)

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        plain = functools.partial(self._plain, tokens)
        # A graph would repeat the message of the call in which it was recorded.
        output = plain() if self._recorded is None or is_steered() else self._recorded.step(tokens, self._cache, plain)
        self._cache.advance([1] * len(tokens))
        return output

    def likeliest(self, logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
        return likeliest(logits, width)

    def _plain(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        mask = self._cache.mask([1] * len(tokens), self.lm.device)
        positions = torch.tensor(self._cache.lengths, device=self.lm.device)
        return self.lm.next_token(tokens, mask, positions, self._cache, self.layers, self.network)


class TorchComing:
    """Prompts of similar length, left-padded and read together."""

    def __init__(self, lm: TorchLM, cache: RunningCache, prompts: Sequence[Sequence[int]]) -> None:
        self.lm, self.cache, self.prompts = lm, cache, list(prompts)
        self.cache.open(len(prompts))
        self._longest = max(map(len, prompts)) - 1
        self._done = 0

    def advance(self, hurry: bool) -> bool:
        pad = self.lm.tokenizer.pad_token_id or 0
        if self._done < self._longest:
            width = max(1, (CHUNK if hurry else CHUNK_BESIDE) // len(self.prompts))
            stop = min(self._done + width, self._longest)
            tokens, ids, positions = [], [], []
            for prompt in self.prompts:
                padding = self._longest - (len(prompt) - 1)
                new = list(prompt[max(0, self._done - padding) : max(0, stop - padding)])
                padded = stop - self._done - len(new)
                tokens.append(len(new))
                ids.append([pad] * padded + new)
                first = max(0, self._done - padding)
                positions.append([0] * padded + list(range(first, first + len(new))))
            self.lm.model(
                input_ids=torch.tensor(ids, device=self.lm.device),
                attention_mask=self.cache.mask(tokens, self.lm.device),
                position_ids=torch.tensor(positions, device=self.lm.device),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
            self.cache.advance(tokens)
            self._done = stop
        return self._done >= self._longest

    def remove(self, place: int) -> None:
        self.cache.remove(place)
        last = self.prompts.pop()
        if place < len(self.prompts):
            self.prompts[place] = last
