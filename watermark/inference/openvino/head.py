"""The output head: a product with the whole vocabulary in 4 bits finds the likely tokens, and theirs is repeated in 8 bits.

At batch 1 the head is half of a step, and what it costs is reading its weights. In 4 bits, logits are off by .2: too much to draw from, and
enough to say which 192 of 262,144 tokens matter (docs/experiments.md, "An output head in 4 bits"). A first pass over the whole vocabulary
that is only good enough to choose from is the idea of "SVD-Softmax" (Shim et al., NIPS 2017); there it has a low rank, here few bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from torch import Tensor

from watermark.compiled import CACHE_LINE, compiled
from watermark.inference.likeliest import likeliest
from watermark.inference.openvino.files import HEAD, ROWS, SCALES

REPEATED = 192
"""Tokens whose product is repeated: more than are drawn from."""
CHUNK = 128
"""Logits of which the graph says the largest, too."""
GROUP = 64
"""Weights that share a scale."""


def write_rounded(weight: np.ndarray, folder: Path) -> None:
    """The files of a head with `weight` (vocabulary, hidden) float32, hidden a multiple of GROUP.

    HEAD is the graph states (rows, hidden) → `logits` (rows, vocabulary) in 4 bits, the `largest` of every CHUNK of them, and the `turned`
    states; ROWS and SCALES are the weights that the turned states meet, in 8 bits.

    W = U·Σ·Vᵀ is split into U·√Σ, which is rounded, and √Σ·Vᵀ, which the states go through first. In these coordinates most of what sets
    one logit apart from another lies in a few columns, and the first GROUP of them are there twice in 4 bits: rounded, and what rounding
    left of them, rounded again. Errors fall from .53 to .23.
    """
    vocabulary, hidden = weight.shape
    squares, directions = np.linalg.eigh((weight.T @ weight).astype(np.float64) / vocabulary)  # rising
    root = np.maximum(squares[::-1], squares[-1] * 1e-9) ** 0.25
    turn = (directions[:, ::-1] * root).astype(np.float32)
    groups = (weight @ (directions[:, ::-1] / root).astype(np.float32)).reshape(vocabulary, -1, GROUP)

    scales = np.maximum(np.abs(groups).max(axis=2, keepdims=True) / 127, np.finfo(np.float32).tiny)
    np.save(folder / ROWS, np.rint(groups / scales).astype(np.int8).reshape(vocabulary, hidden))
    np.save(folder / SCALES, scales[:, :, 0])

    integers, scales = _four_bits(groups)
    again, scales_again = _four_bits(groups[:, :1] - integers[:, :1] * scales[:, :1])
    rounded = _constant(np.concatenate([integers, again], axis=1), np.concatenate([scales, scales_again], axis=1))
    states = ops.parameter([-1, hidden], np.float32, name="states")
    turned = ops.matmul(states, ops.constant(turn), False, False)
    twice = ops.slice(turned, _ints(0), _ints(GROUP), _ints(1), _ints(1))
    logits = ops.matmul(ops.concat([turned, twice], 1), rounded, False, True)
    padding = -vocabulary % CHUNK
    padded = ops.pad(logits, _ints(0, 0), _ints(0, padding), "constant", np.float32(-np.inf)) if padding else logits
    largest = ops.reduce_max(ops.reshape(padded, _ints(-1, (vocabulary + padding) // CHUNK, CHUNK), False), _ints(2), False)
    results = []
    for name, node in (("logits", logits), ("largest", largest), ("turned", turned)):
        results.append(ops.result(node))
        results[-1].output(0).get_tensor().set_names({name})
    graph: Any = ov.Model  # its type stubs contradict themselves
    ov.save_model(graph(results, [states], "head"), folder / HEAD, compress_to_fp16=False)


def _four_bits(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, groups, GROUP) → int8 of the same shape within -8 … 7, and scales (rows, groups, 1). What is largest in a group becomes -8:
    the scale may be negative, and no step is lost."""
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=2, keepdims=True), axis=2)
    scales = np.where(extreme == 0, np.float32(1.0), extreme / np.float32(-8.0))
    return np.clip(np.rint(groups / scales), -8, 7).astype(np.int8), scales


def _constant(integers: np.ndarray, scales: np.ndarray) -> Any:
    """The node of what `_four_bits` made, as a matrix (rows, columns)."""
    nibbles = integers.reshape(-1, 2) & 15
    packed = np.ascontiguousarray((nibbles[:, 0] | nibbles[:, 1] << 4).astype(np.uint8))
    stored = ov.op.Constant(ov.Tensor(packed, ov.Shape([*integers.shape]), ov.Type.i4), shared_memory=False)
    dequantised = ops.multiply(ops.convert(stored, np.float32), ops.constant(scales))
    return ops.reshape(dequantised, _ints(len(integers), integers[0].size), False)


class Head:
    """A request of a compiled head; for one that `write_rounded` wrote, with the files beside it."""

    def __init__(self, compiled_head: Any, folder: Path, *, rounded: bool) -> None:
        self._request = compiled_head.create_infer_request()
        self._rows = tuple(np.load(folder / name, mmap_mode="r") for name in (ROWS, SCALES)) if rounded else ()
        self._repeated: Tensor | None = None
        """(rows, REPEATED) ids of the latest call."""

    def __call__(self, states: np.ndarray) -> Tensor:
        """states float32 (rows, hidden) → logits (rows, vocabulary), good until the next call."""
        self._request.infer({"states": states}, share_inputs=True)
        logits = self._request.get_output_tensor(0).data
        if self._rows:
            largest, turned = (self._request.get_output_tensor(i).data for i in (1, 2))
            ids = np.empty((len(states), min(REPEATED, logits.shape[1])), np.int64)
            _repeat(largest, _least(largest, ids.shape[1]), turned, *self._rows, logits, ids)
            self._repeated = torch.from_numpy(ids)
        return torch.from_numpy(logits)

    def likeliest(self, logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """See `RunningModel.likeliest`."""
        if self._repeated is None or 2 * width > self._repeated.shape[1]:
            return likeliest(logits, width)
        values, places = logits.gather(1, self._repeated).topk(width, dim=-1)
        return values, self._repeated.gather(1, places)


def _least(largest: np.ndarray, count: int) -> np.ndarray:
    """largest (rows, chunks) → (rows,): so many chunks have a value of at least this, and so have at least so many tokens."""
    chunks = largest.shape[1]
    if chunks <= count:
        return np.full(len(largest), -np.inf, np.float32)
    return np.partition(largest, chunks - count)[:, chunks - count].copy()


@compiled
def _repeat(largest, least, turned, weights, scales, logits, ids):
    """Find the tokens of the largest `logits` (rows, vocabulary), as many as `ids` (rows, count) has room for, and put better ones in place
    of theirs. All of them have `least` (rows,); `largest` (rows, chunks); `turned` (rows, hidden) meets int8 `weights` (vocabulary, hidden)
    times `scales` (vocabulary, groups)."""
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
    return asked, requested


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))
