"""Polar codes: the transform, which inputs to use, and soft list decoding.

A polar code of length N = 2^m sends u·F, F the m-fold Kronecker power of [[1, 0], [1, 1]] over GF(2): some inputs become nearly
certain at the receiver, the others nearly useless; the useless ones are frozen at 0 (Arıkan, "Channel polarization", IEEE
Trans. Inf. Theory 55:7, 2009). The order of the inputs by reliability is the β-expansion of He et al. ("β-expansion: a theoretical
framework for fast and recursive construction of polar codes", GLOBECOM 2017), the base of the sequence in 5G. Decoding keeps the
`paths` likeliest prefixes (Tal and Vardy, "List decoding of polar codes", IEEE Trans. Inf. Theory 61:5, 2015) with the path
metric of Balatsoukas-Stimming, Parizi and Burg (IEEE Trans. Signal Process. 63:19, 2015); subtrees whose inputs are all
frozen are passed in one step (Alamdari and Kschischang, IEEE Commun. Lett. 15:12, 2011).

Why polar codes here: a text gives each of 1,024 signs a third of a standard deviation, so a message of 64 bits is close to
what can be read at all, and a code that loses a tenth of it loses the message. docs/experiments.md has the comparison.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BETA = 2.0**0.25
Bits = NDArray[np.uint8]
Floats = NDArray[np.floating]


def reliability_order(length: int) -> NDArray[np.int64]:
    """Inputs 0 … length - 1 of a code of length 2^m, the most reliable first; ties (there are none up to 2^16) by number."""
    numbers = np.arange(length)
    weight = np.zeros(length)
    for power in range(length.bit_length() - 1):
        weight += ((numbers >> power) & 1) * BETA**power
    return np.argsort(-weight, kind="stable")


def transform(inputs: Bits) -> Bits:
    """u·F over the last axis, whose length is a power of two: uint8 of 0 and 1, shape unchanged."""
    outputs = inputs.copy()
    half = 1
    while half < outputs.shape[-1]:
        pairs = outputs.reshape(*outputs.shape[:-1], -1, 2, half)
        pairs[..., 0, :] ^= pairs[..., 1, :]
        half *= 2
    return outputs


class ListDecoder:
    """One decoding: the likeliest inputs given log-likelihood ratios of the outputs.

    Starts from several rows of ratios at once (here: one per mask that the sender may have used), and all compete for the
    same list: `start` says which row a path began with. After `run`: `bits` (p, k) uint8 of the inputs that are not frozen,
    in order; `start` (p,); `metric` (p,), the negative log-likelihood of each path up to a constant.
    """

    def __init__(self, free: NDArray[np.bool_], paths: int) -> None:
        """free (N,): which inputs carry information; `paths`: size of the list."""
        self._free, self._paths = free, paths

    def run(self, ratios: Floats) -> ListDecoder:
        """ratios (rows, N), log P(0) - log P(1) of each output."""
        self.start = np.arange(len(ratios))
        self.metric = np.zeros(len(ratios))
        self.bits: Bits = np.zeros((len(ratios), 0), dtype=np.uint8)
        self._node(0, ratios)
        return self

    def _node(self, first: int, ratios: Floats) -> tuple[Bits, NDArray[np.int64] | None]:
        """Decode the inputs from `first` on that these outputs (paths, size) belong to.

        Returns the outputs as decided, and which of the paths given each of the paths now continues (None: each its own).
        """
        size = ratios.shape[1]
        if not self._free[first : first + size].any():
            self.metric = self.metric + np.logaddexp(0.0, -ratios).sum(axis=1)
            return np.zeros(ratios.shape, dtype=np.uint8), None
        if size == 1:
            return self._branch(ratios[:, 0])
        half = size // 2
        left, origin = self._node(first, _either(ratios[:, :half], ratios[:, half:]))
        if origin is not None:
            ratios = ratios[origin]
        right, later = self._node(first + half, ratios[:, half:] + (1.0 - 2.0 * left.astype(np.float32)) * ratios[:, :half])
        if later is not None:
            left = left[later]
            origin = later if origin is None else origin[later]
        return np.concatenate([left ^ right, right], axis=1), origin

    def _branch(self, ratios: Floats) -> tuple[Bits, NDArray[np.int64]]:
        """Both values of one input for every path, of which the likeliest `paths` stay."""
        metric = np.concatenate([self.metric + np.logaddexp(0.0, -ratios), self.metric + np.logaddexp(0.0, ratios)])
        kept = np.arange(len(metric)) if len(metric) <= self._paths else np.argpartition(metric, self._paths)[: self._paths]
        origin = kept % len(ratios)
        value = (kept >= len(ratios)).astype(np.uint8)[:, None]
        self.metric, self.start = metric[kept], self.start[origin]
        self.bits = np.concatenate([self.bits[origin], value], axis=1)
        return value, origin


def _either(a: Floats, b: Floats) -> Floats:
    """Log-likelihood ratio of the sum of two bits from those of the bits: 2·artanh(tanh(a/2)·tanh(b/2)), without overflow."""
    smaller = np.minimum(np.abs(a), np.abs(b)) * np.sign(a) * np.sign(b)
    return smaller + np.log1p(np.exp(-np.abs(a + b))) - np.log1p(np.exp(-np.abs(a - b)))
