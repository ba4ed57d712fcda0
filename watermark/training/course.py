"""What the trainer needs to know of a kind of pair: its data, its losses, and how it is validated."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from watermark.inference.torch_lm import TorchLM
from watermark.pair import AnyPair

Losses = tuple[dict[str, torch.Tensor], dict[str, float]]
"""Weighted terms by name, whose sum is minimised, and figures for the curves."""


class Course(Protocol):
    """One kind's way of training."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the loss terms and figures, in the order of the curves' columns."""
        ...

    @property
    def validation(self) -> tuple[str, ...]:
        """Names of the figures of `validate`."""
        ...

    @property
    def shown(self) -> tuple[str, str]:
        """Two figures for the line beside a progress bar."""
        ...

    def begin(self, lm: TorchLM, config: Any, seed: int) -> AnyPair:
        """A new pair, with everything that its data decides."""
        ...

    def groups(self, pair: Any) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer; `scale` multiplies the learning rate."""
        ...

    def losses(self, lm: TorchLM, pair: Any, rng: np.random.Generator, generator: torch.Generator) -> Losses:
        """Of one step's texts in this process, which (seed, step, process) decide alone. Every term is a mean over texts."""
        ...

    def after_step(self, figures: dict[str, float]) -> None:
        """What follows from the figures of a step, averaged over all processes, for the next one."""
        ...

    def validate(self, lm: TorchLM, pair: Any, seed: int) -> dict[str, float]:
        """On held-out texts, with signs fixed by the seed: comparable between steps and runs."""
        ...

    def state(self) -> dict[str, Any]:
        """What besides the pair goes on from step to step."""
        ...

    def restore(self, state: dict[str, Any]) -> None: ...

    def description(self) -> dict[str, Any]:
        """Settings that a resumed run must share."""
        ...
