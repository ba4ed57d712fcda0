"""The output head: a product with the whole vocabulary in 4 bits finds the likely tokens, and theirs is repeated in 8 bits.

At batch 1 the head is half of a step, and what it costs is reading its weights. In 4 bits, logits are off by .2: too much to draw from, and
enough to say which 192 of 262,144 tokens matter (docs/experiments.md, "An output head in 4 bits"). A first pass over the whole vocabulary
that is only good enough to choose from is the idea of "SVD-Softmax" (Shim et al., NIPS 2017); there it has a low rank, here few bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from watermark.compiled import CACHE_LINE, compiled
from watermark.errors import BaseModelError
from watermark.inference.likeliest import likeliest
from watermark.inference.openvino.files import ROWS, SCALES

REPEATED = 192
"""Tokens whose product is repeated, where no more than half of them are drawn from; for a larger top-k it is twice as many."""
CHUNK = 128
"""Logits of which the graph says the largest, too."""
GROUP = 64
"""Weights that share a scale."""


class Head:
    """A request of a compiled head; for one that `write_rounded` wrote, with the files beside it."""

    def __init__(self, compiled_head: Any, folder: Path, *, rounded: bool) -> None:
        """Raises BaseModelError."""
        self._request = compiled_head.create_infer_request()
        self._rows = tuple(np.load(folder / name, mmap_mode="r") for name in (ROWS, SCALES)) if rounded else ()
        self._repeated: np.ndarray | None = None
        """(rows, count) ids of the latest call."""
        if self._rows:
            vocabulary, hidden = (compiled_head.output(name).get_partial_shape()[1].get_length() for name in ("logits", "turned"))
            found = [(rows.dtype, rows.shape) for rows in self._rows]
            if found != [(np.int8, (vocabulary, hidden)), (np.float32, (vocabulary, hidden // GROUP))]:
                raise BaseModelError(f"Files of the output head in {folder} do not fit each other. Remove the folder, and it is made anew.")

    def __call__(self, states: np.ndarray) -> Tensor:
        """states float32 (rows, hidden) → logits (rows, vocabulary), good until the next call."""
        self._request.infer({"states": states}, share_inputs=True)
        logits = self._request.get_output_tensor(0).data
        if self._rows:
            self._repeat(self._request.get_output_tensor(1).data, logits, REPEATED)
        return torch.from_numpy(logits)

    def likeliest(self, logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """See `RunningModel.likeliest`; of a rounded head, the largest of those whose product was repeated."""
        if self._repeated is None:
            return likeliest(logits, width)
        if 2 * width > self._repeated.shape[1] < logits.shape[1]:
            padded = np.pad(logits.numpy(), ((0, 0), (0, -logits.shape[1] % CHUNK)), constant_values=-np.inf)
            self._repeat(padded.reshape(len(logits), -1, CHUNK).max(axis=2), logits.numpy(), 2 * width)
        values, ids = np.empty((len(logits), width), np.float32), np.empty((len(logits), width), np.int64)
        _sort(logits.numpy(), self._repeated, values, ids)
        return torch.from_numpy(values), torch.from_numpy(ids)

    def _repeat(self, largest: np.ndarray, logits: np.ndarray, count: int) -> None:
        ids = np.empty((len(logits), min(count, logits.shape[1])), np.int64)
        _repeat(largest, _least(largest, ids.shape[1]), self._request.get_output_tensor(2).data, *self._rows, logits, ids)
        self._repeated = ids


def _least(largest: np.ndarray, count: int) -> np.ndarray:
    """largest (rows, chunks) → (rows,): so many chunks have a value of at least this, and so have at least so many tokens."""
    chunks = largest.shape[1]
    if chunks <= count:
        return np.full(len(largest), -np.inf, np.float32)
    return np.partition(largest, chunks - count)[:, chunks - count].copy()


@compiled
def _repeat(largest, least, turned, weights, scales, logits, ids):
    """Find the tokens of the largest `logits` (rows, vocabulary), as many as `ids` (rows, count) has room for, and put better ones in place
    of theirs. All of them have at least `least` (rows,); `largest` (rows, chunks); `turned` (rows, hidden) meets int8 `weights`
    (vocabulary, hidden) times `scales` (vocabulary, groups)."""
    rows, vocabulary = logits.shape
    chunks, count = largest.shape[1], ids.shape[1]
    found, values = np.empty(vocabulary, np.int32), np.empty(vocabulary, np.float32)
    asked, requested = 0, np.float32(0.0)
    for row in range(rows):
        line = logits[row]
        number = 0
        for chunk in range(chunks):
            if largest[row, chunk] >= least[row]:
                for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, vocabulary)):
                    if line[i] >= least[row]:
                        found[number], values[number] = i, line[i]
                        number += 1
        if number < count:  # logits that are no numbers
            ids[row] = np.arange(count)
            continue
        last = np.partition(values[:number], number - count)[number - count]
        taken = 0
        for place in range(number):
            if values[place] > last:
                ids[row, taken] = found[place]
                taken += 1
        for place in range(number):  # rows of unused tokens may be alike
            if values[place] == last and taken < count:
                ids[row, taken] = found[place]
                taken += 1
        for place in range(count):  # all lines are on their way before the first one is needed
            for column in range(0, weights.shape[1], CACHE_LINE):
                asked += weights[ids[row, place], column]
            requested += scales[ids[row, place], 0]
        for place in range(count):
            token, total = ids[row, place], np.float32(0.0)
            for group in range(scales.shape[1]):
                begin, part = group * GROUP, np.float32(0.0)
                weight, state = weights[token, begin : begin + GROUP], turned[row, begin : begin + GROUP]
                for column in range(GROUP):
                    part += state[column] * np.float32(weight[column])
                total += part * scales[token, group]
            line[token] = total
    return asked, requested  # so that asking is not left out


@compiled
def _sort(logits, chosen, values, ids):
    """The largest logits (rows, vocabulary) of those at `chosen` (rows, count), falling, into `values` (rows, width) and `ids`."""
    for row in range(len(logits)):
        found = logits[row][chosen[row]]
        order = np.argsort(-found)
        for place in range(values.shape[1]):
            values[row, place], ids[row, place] = found[order[place]], chosen[row, order[place]]
