"""What a batch that is being written asks of a model: texts come, go on by a token each, and go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

CHUNK = 1024
"""Prompt tokens of a forward pass, padding included, while nothing else runs: bounds the memory of long prompts, and how long whoever
runs the batch hears nothing."""
CHUNK_BESIDE = 128
"""The same while texts are being written: it is what they wait for."""


class Coming(Protocol):
    """Prompts that are being read, everything but each one's last token, which becomes the input of its first step."""

    def advance(self, hurry: bool) -> bool:
        """Read a piece, a large one with `hurry`. True when all are read."""
        ...

    def remove(self, place: int) -> None:
        """Give up a prompt; the last one takes its place."""
        ...


class RunningModel(Protocol):
    """Keys and values of the texts of a batch. Places count from 0; what a text gets does not depend on its neighbours."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> Coming:
        """Start to read prompts, each of at least one token."""
        ...

    def join(self, coming: Coming) -> None:
        """Texts whose prompts have been read take the next places, in order."""
        ...

    def remove(self, place: int) -> None:
        """Take a text out; the last one takes its place."""
        ...

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """The latest token (B,) of every text → logits (B, vocabulary) of the next one, and what the network, if there is one, makes of the
        hidden states that predict it; both are good until the next step."""
        ...

    def likeliest(self, logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Of the logits of the latest step, the `width` largest of each row, falling, and their ids
        (B, width). A backend that rounds what is unlikely may choose among the likely ones."""
        ...
