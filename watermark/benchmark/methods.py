"""What the benchmark asks of a watermark: to write texts, and to score any text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from watermark.sampling.requests import SamplingSettings


@dataclass(frozen=True)
class Detection:
    """What a detector makes of one text."""

    score: float
    """The larger, the more it speaks for a mark; thresholds at measured false-positive rates are set on it."""
    p_value: float | None
    """By the method's own account; None where it publishes none."""


NOTHING = Detection(0.0, None)
"""Of a text too short for a detector to say anything: the middle of a z-score, and no evidence at all on the scale of -log10 p."""


@dataclass(frozen=True)
class Order:
    """A text to write. Methods with several keys choose one by its number, in writing as in detecting."""

    number: int
    prompt: str
    seed: int


class Detector(Protocol):
    def __call__(self, texts: Sequence[str], numbers: Sequence[int]) -> list[Detection]:
        """One per text, in order, from the strings alone. What is marked with the key of its number is looked for with that key."""
        ...


class Writer(Protocol):
    name: str
    title: str
    """For tables and plots."""
    settings: dict[str, Any]
    """Everything that changes its texts or scores, as JSON values."""

    def write(self, orders: Sequence[Order], sampling: SamplingSettings, *, marked: bool = True) -> list[list[int]]:
        """Token ids of each continuation, exactly `sampling.max_new_tokens` of them. `marked=False` is the same engine without its mark."""
        ...


class Method(Writer, Protocol):
    """A watermark: what it writes, it can detect."""

    def detector(self) -> Detector:
        """A new one, which remembers nothing of texts seen before."""
        ...
