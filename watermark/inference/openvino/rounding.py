"""Writing an output head whose weights are in 4 bits for choosing tokens, and in 8 bits for drawing them: see `head`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from watermark.inference.openvino.files import HEAD, ROWS, SCALES
from watermark.inference.openvino.graph import Model, ints
from watermark.inference.openvino.head import CHUNK, GROUP

TINY = np.float32(1e-30)
"""Weights that are smaller are nothing."""


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

    scales = np.maximum(np.abs(groups).max(axis=2, keepdims=True) / 127, TINY)
    np.save(folder / ROWS, np.rint(groups / scales).astype(np.int8).reshape(vocabulary, hidden))
    np.save(folder / SCALES, scales[:, :, 0])

    integers, scales = _four_bits(groups)
    again, scales_again = _four_bits(groups[:, :1] - integers[:, :1] * scales[:, :1])
    rounded = _matrix(np.concatenate([integers, again], axis=1), np.concatenate([scales, scales_again], axis=1))
    states = ops.parameter([-1, hidden], np.float32, name="states")
    turned = ops.matmul(states, ops.constant(turn), False, False)
    twice = ops.slice(turned, ints(0), ints(GROUP), ints(1), ints(1))
    logits = ops.matmul(ops.concat([turned, twice], 1), rounded, False, True)
    padding = -vocabulary % CHUNK
    padded = ops.pad(logits, ints(0, 0), ints(0, padding), "constant", np.float32(-np.inf)) if padding else logits
    largest = ops.reduce_max(ops.reshape(padded, ints(-1, (vocabulary + padding) // CHUNK, CHUNK), False), ints(2), False)
    results = []
    for name, node in (("logits", logits), ("largest", largest), ("turned", turned)):
        results.append(ops.result(node))
        results[-1].output(0).get_tensor().set_names({name})
    ov.save_model(Model(results, [states], "head"), folder / HEAD, compress_to_fp16=False)


def _four_bits(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, groups, GROUP) → int8 of the same shape within -8 … 7, and scales (rows, groups, 1). What is largest in a group becomes -8:
    the scale may be negative, and no step is lost."""
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=2, keepdims=True), axis=2)
    scales = np.where(np.abs(extreme) < TINY, TINY, extreme / np.float32(-8.0))
    return np.clip(np.rint(groups / scales), -8, 7).astype(np.int8), scales


def _matrix(integers: np.ndarray, scales: np.ndarray) -> Any:
    """The node of what `_four_bits` made, as a matrix (rows, columns)."""
    nibbles = integers.reshape(-1, 2) & 15
    packed = np.ascontiguousarray((nibbles[:, 0] | nibbles[:, 1] << 4).astype(np.uint8))
    stored = ov.op.Constant(ov.Tensor(packed, ov.Shape([*integers.shape]), ov.Type.i4), shared_memory=False)
    dequantised = ops.multiply(ops.convert(stored, np.float32), ops.constant(scales))
    return ops.reshape(dequantised, ints(len(integers), integers[0].size), False)
