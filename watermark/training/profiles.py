"""How much to train on which machine. A profile is the recipe of one command; single options may override it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Advance = Callable[[str, int, int, str], None]
"""(stage, done, total, words shown beside the bar)."""


@dataclass(frozen=True)
class Profile:
    device: str
    documents: int
    """Human documents to cache features of."""
    sampled: int
    """Documents whose continuation the model writes itself."""
    steps: int
    texts: int
    """Texts per step."""
    learning_rate: float
    finished: int
    """Marked texts written for the refinement of the extractor."""


Kind = Literal["tournament", "gated", "substituted"]
_RESIDUAL = {
    "cpu": Profile(device="cpu", documents=384, sampled=32, steps=800, texts=16, learning_rate=3e-4, finished=0),
    "gpu": Profile(device="cuda", documents=2048, sampled=1024, steps=8000, texts=32, learning_rate=3e-4, finished=0),
}
PROFILES: dict[Kind, dict[str, Profile]] = {
    "tournament": {
        "cpu": Profile(device="cpu", documents=512, sampled=256, steps=4000, texts=8, learning_rate=1e-4, finished=384),
        "gpu": Profile(device="cuda", documents=2048, sampled=1024, steps=8000, texts=32, learning_rate=2e-4, finished=1536),
    },
    "gated": _RESIDUAL,
    "substituted": _RESIDUAL,
}
"""`cpu` made the shipped checkpoints, the tournament pair with `finished=0`. `gpu` is sized by arithmetic and has not been run."""
