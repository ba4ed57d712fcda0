"""Reading the prompts of rows that are about to join a running batch, a piece at a time so that running rows do not stall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from watermark.base_model import FrozenLM
from watermark.sampling.cache import RunningCache

if TYPE_CHECKING:
    from watermark.sampling.decode import Row

CHUNK = 1024
"""Prompt tokens of a forward pass, padding included, while nothing else runs: bounds the memory of long prompts, and how long whoever
runs the batch hears nothing."""
CHUNK_BESIDE = 128
"""The same while rows are being written: it is what they wait for."""
SLACK = 32
"""Prompts whose lengths differ by less, or by less than a factor of two, are read together: padding costs less than another pass."""


def alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in groups of similar prompt length, so that little is padded; the order of those in one group is kept."""
    groups: list[list[Row]] = []
    shortest = 0
    for row in sorted(rows, key=lambda row: len(row.prompt_ids)):
        length = len(row.prompt_ids)
        if not groups or length > 2 * shortest + SLACK:
            groups.append([])
            shortest = length
        groups[-1].append(row)
    places = {id(row): place for place, row in enumerate(rows)}
    return [sorted(group, key=lambda row: places[id(row)]) for group in groups]


class Prefill:
    """A group of rows, left-padded; everything but each prompt's last token, which becomes the input of the first step."""

    def __init__(self, lm: FrozenLM, rows: Sequence[Row]) -> None:
        self.lm, self.rows = lm, list(rows)
        self.cache = RunningCache(lm)
        self.cache.open(len(rows))
        self._longest = max(len(row.prompt_ids) for row in rows) - 1
        self._done = 0

    @torch.inference_mode()
    def advance(self, hurry: bool) -> bool:
        """Read a piece, a large one with `hurry`. True when the rows are ready to join."""
        pad = self.lm.tokenizer.pad_token_id or 0
        if self._done < self._longest:
            width = max(1, (CHUNK if hurry else CHUNK_BESIDE) // len(self.rows))
            stop = min(self._done + width, self._longest)
            tokens, ids, positions = [], [], []
            for row in self.rows:
                padding = self._longest - (len(row.prompt_ids) - 1)
                new = row.prompt_ids[max(0, self._done - padding) : max(0, stop - padding)]
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

    def remove(self, row: Row) -> None:
        if row in self.rows:
            place = self.rows.index(row)
            self.cache.remove(place)
            last = self.rows.pop()
            if place < len(self.rows):
                self.rows[place] = last
