"""Small calibrations of known soundness, in place of some thousand real texts."""

from __future__ import annotations

import numpy as np

from tests.fakes import fake_config
from watermark.calibration.file import Calibration
from watermark.calibration.null import NullSample
from watermark.calibration.power import Power

N = fake_config().n


def sound_calibration(texts: int = 400) -> Calibration:
    """Unmarked texts without any direction in common: every key's p-values hold."""
    return _calibration(np.random.default_rng(0).standard_normal((texts, N)))


def leaning_calibration(direction: np.ndarray) -> Calibration:
    """Unmarked texts that lean towards `direction` (n,)."""
    return _calibration(np.random.default_rng(0).standard_normal((400, N)) + 3 * direction / np.linalg.norm(direction))


def split_calibration(texts: int, directions: int = 1) -> Calibration:
    """All texts in few directions, every other one backwards, so that the shift measured on one half is wrong for the other.

    Each key has one p-value per direction on all even texts and one on all odd ones. Twenty texts in one direction refuse most keys,
    2,000 texts in four every one.
    """
    ways = np.random.default_rng(1).standard_normal((directions, N))
    number = np.arange(texts)
    return _calibration(np.where(number[:, None] % 2, -1, 1) * ways[number // 2 % directions])


def _calibration(evidence: np.ndarray) -> Calibration:
    """Texts of 64 tokens. Of marked ones 40 % are found at 20 tokens and all at 200, among up to 10^5 candidates at a rate of 0.001."""
    texts = len(evidence)
    length, kind = np.full(texts, 64, dtype=np.int32), np.zeros(texts, dtype=np.int32)
    sample = NullSample.of(("human",), evidence, length, kind, np.arange(texts, dtype=np.int32))
    exponents = np.full((50, 2), 30.0, dtype=np.float32)
    exponents[20:, 0] = 0.0
    return Calibration(sample, Power((20, 200), exponents))
