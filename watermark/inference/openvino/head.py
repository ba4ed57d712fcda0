"""The output head: a product with the whole vocabulary in 4 bits finds the likely tokens, and theirs is repeated exactly.

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
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from openvino import opset13 as ops
from torch import Tensor

from watermark.compiled import compiled
from watermark.inference.likeliest import likeliest

EXACT = 192
"""Tokens whose logits are exact, a few more than are drawn from."""
CHUNK = 128
"""Logits of which the graph says the largest, too."""
GROUP = 64
"""Weights that share a scale."""


def rounded_head(weight: np.ndarray) -> Any:
    """For a weight (vocabulary, hidden) float32, the graph states (rows, hidden) → `logits` (rows, vocabulary) and the `largest` of every
    CHUNK of them.

    W = U·Σ·Vᵀ is split into U·√Σ, which is rounded, and √Σ·Vᵀ, which the states go through first. In these coordinates most of what sets
    one logit apart from another lies in a few columns, and the first GROUP of them are there twice: rounded, and what rounding left of
    them, rounded again. Errors fall from .53 to .23.
    """
    vocabulary, hidden = weight.shape
    group = GROUP if hidden % GROUP == 0 else hidden
    squares, directions = np.linalg.eigh((weight.T @ weight).astype(np.float64) / vocabulary)  # rising
    root = np.maximum(squares[::-1], squares[-1] * 1e-9) ** 0.25
    into = (directions[:, ::-1] * root).astype(np.float32)
    columns = weight @ (directions[:, ::-1] / root).astype(np.float32)
    twice, rest = columns[:, :group], columns[:, group:]
    integers, scales = zip(*(_four_bits(part, group) for part in (twice, rest) if part.size), strict=True)
    left = _four_bits(twice - (integers[0] * scales[0]).reshape(twice.shape), group)
    rounded = _constant(np.concatenate([*integers, left[0]], axis=1), np.concatenate([*scales, left[1]], axis=1))

    states = ops.parameter([-1, hidden], np.float32, name="states")
    turned = ops.matmul(states, ops.constant(np.concatenate([into, into[:, :group]], axis=1)), False, False)
    logits = ops.matmul(turned, rounded, False, True)
    padding = -vocabulary % CHUNK
    padded = ops.pad(logits, _ints(0, 0), _ints(0, padding), "constant", np.float32(-np.inf)) if padding else logits
    largest = ops.reduce_max(ops.reshape(padded, _ints(-1, (vocabulary + padding) // CHUNK, CHUNK), False), _ints(2), False)
    results = []
    for name, node in (("logits", logits), ("largest", largest)):
        results.append(ops.result(node))
        results[-1].output(0).get_tensor().set_names({name})
    return ov.Model(results, [states], "head")  # type: ignore[call-overload]  # its type stubs contradict themselves


def _four_bits(weight: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """weight (rows, columns) → int8 (rows, groups, group) within -8 … 7, and scales (rows, groups, 1). What is largest in a group becomes
    -8: the scale may be negative, and no step is lost."""
    groups = weight.reshape(len(weight), -1, group)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=2, keepdims=True), axis=2)
    scale = np.where(extreme == 0, np.float32(1.0), extreme / np.float32(-8.0))
    return np.clip(np.rint(groups / scale), -8, 7).astype(np.int8), scale


def _constant(integers: np.ndarray, scales: np.ndarray) -> Any:
    """The node of integers (rows, groups, group) times scales (rows, groups, 1), as a matrix."""
    nibbles = integers.reshape(-1, 2) & 15
    packed = np.ascontiguousarray((nibbles[:, 0] | nibbles[:, 1] << 4).astype(np.uint8))
    stored = ov.op.Constant(ov.Tensor(packed, ov.Shape([*integers.shape]), ov.Type.i4), shared_memory=False)
    dequantised = ops.multiply(ops.convert(stored, np.float32), ops.constant(scales))
    return ops.reshape(dequantised, _ints(len(integers), integers[0].size), False)


class Head:
    """A request of a compiled head, and for one in 4 bits the table (vocabulary, hidden) of its weights in half precision."""

    def __init__(self, compiled_head: Any, table: np.ndarray | None) -> None:
        self._request = compiled_head.create_infer_request()
        self._table = None if table is None else table.view(np.uint16)
        self._exact: Tensor | None = None
        """(rows, EXACT) ids of the latest call."""

    def __call__(self, states: np.ndarray) -> Tensor:
        """states float32 (rows, hidden) → logits (rows, vocabulary), good until the next call."""
        self._request.infer({"states": states}, share_inputs=True)
        logits = self._request.get_output_tensor(0).data
        if self._table is not None:
            ids = np.empty((len(states), min(EXACT, logits.shape[1])), np.int64)
            _repeat_exactly(states, self._table, self._request.get_output_tensor(1).data, logits, ids)
            self._exact = torch.from_numpy(ids)
        return torch.from_numpy(logits)

    def likeliest(self, logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """See `RunningModel.likeliest`."""
        if self._exact is None or 2 * width > self._exact.shape[1]:
            return likeliest(logits, width)
        values, places = logits.gather(1, self._exact).topk(width, dim=-1)
        return values, self._exact.gather(1, places)


@compiled
def _repeat_exactly(states, table, largest, logits, ids):
    """Find the tokens of the largest `logits` (rows, vocabulary), as many as `ids` (rows, count) has room for, and put their exact logits
    in place of the rounded ones. `largest` (rows, chunks); `table` (vocabulary, hidden) half precision as uint16."""
    rows, vocabulary = logits.shape
    chunks, count = largest.shape[1], ids.shape[1]
    found, values = np.empty(vocabulary, np.int32), np.empty(vocabulary, np.float32)
    asked = 0
    for row in range(rows):
        line = logits[row]
        least = np.float32(-np.inf)
        if chunks > count:  # so many chunks have a value of at least this, and so have at least so many tokens
            least = np.partition(largest[row], chunks - count)[chunks - count]
        number = 0
        for chunk in range(chunks):
            if largest[row, chunk] >= least:
                for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, vocabulary)):
                    if line[i] >= least:
                        found[number], values[number] = i, line[i]
                        number += 1
        least = np.partition(values[:number], number - count)[number - count]
        taken = 0
        for place in range(number):
            if values[place] >= least and taken < count:
                ids[row, taken] = found[place]
                taken += 1
        for place in range(count):  # all lines are on their way before the first one is needed
            for column in range(0, states.shape[1], LINE):
                asked += table[ids[row, place], column]
        for place in range(count):
            weight, exact = table[ids[row, place]], np.float32(0.0)
            for column in range(states.shape[1]):
                exact += states[row, column] * _widened(weight[column])
            line[ids[row, place]] = exact
    return asked


LINE = 32
"""Numbers of half precision in a line of the CPU's caches."""


@intrinsic
def _widened(_, half):  # type: ignore[no-untyped-def]
    """Half precision, as uint16, to float32: an instruction that numba has no word for."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(half), generate


def half_table(path: Path) -> np.ndarray:
    """Weights (vocabulary, hidden) of a file, float16, mapped."""
    return np.load(path, mmap_mode="r")


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))
