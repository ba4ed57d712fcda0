"""What a benchmark measures, and two sizes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from watermark.errors import InvalidInput
from watermark.evaluation.attacks import Materials, attack

RATES = (0.01, 0.001)
"""False-positive rates at which detection is compared."""
PEERS = ("kgw", "kgw-selfhash", "synthid", "gumbelmax", "greenlist")
Preset = Literal["small", "full"]


@dataclass(frozen=True)
class Scale:
    """How much of everything. A preset sets all of it; each number may be changed."""

    n: int
    """Prompts; each method continues every one of them."""
    lengths: tuple[int, ...]
    """In tokens. Only the longest texts are written; shorter ones are their beginnings."""
    human: int
    """Human texts per length, fewer where there are not so many: thresholds are set on them."""
    attacks: tuple[str, ...]
    quality: int
    """Texts whose likelihood is measured, of the `n`."""
    diversity: tuple[int, int]
    """Prompts, and continuations of each."""
    payload: int
    """Texts with an 8-bit message, for methods that carry one."""
    peers: tuple[str, ...]

    def __post_init__(self) -> None:
        checks = [
            (self.n >= 1, f"n must be at least 1; got {self.n}."),
            (bool(self.lengths) and min(self.lengths) >= 10, f"lengths must be whole numbers of tokens from 10; got {self.lengths}."),
            (self.human >= 1 / RATES[0], f"At least {1 / RATES[0]:.0f} human texts are needed to set a threshold; got {self.human}."),
            ("clean" not in self.attacks, "clean is always measured; do not list it among the attacks."),
            (1 <= self.quality <= self.n, f"quality must be 1 … n; got {self.quality}."),
        ]
        for ok, message in checks:
            if not ok:
                raise InvalidInput(message)
        for name in self.peers:
            if name not in PEERS:
                raise InvalidInput(f"Unknown peer {name!r}. Known: {', '.join(PEERS)}.")
        for name in self.attacks:
            # An unknown name, or a program that is not there, is to fail now, not after hours of writing.
            attack(name, Materials(["word"], ["text"]))


PRESETS: dict[Preset, Scale] = {
    "small": Scale(
        n=24,
        lengths=(50, 100, 200),
        human=1000,
        attacks=("delete-10", "delete-30", "substitute-10", "lower-case", "copy-paste-50"),
        quality=12,
        diversity=(2, 10),
        payload=24,
        peers=("kgw", "synthid", "gumbelmax", "greenlist"),
    ),
    "full": Scale(
        n=200,
        lengths=(50, 100, 200),
        human=8000,
        attacks=("delete-10", "delete-30", "substitute-10", "substitute-30", "insert-20", "typos-10", "lower-case", "copy-paste-50"),
        quality=64,
        diversity=(10, 20),
        payload=64,
        peers=("kgw", "synthid", "gumbelmax", "greenlist"),
    ),
}


@dataclass(frozen=True)
class BenchmarkSettings:
    prompts: tuple[Path, ...]
    human: Path
    """Human texts for thresholds, and for pasting into."""
    out: Path
    """Folder of the report, its plots and the work folders of the methods."""
    preset: Preset
    scale: Scale
    seed: int = 0
    temperature: float = 1.0
    top_k: int = 64
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InvalidInput("Give at least one file of prompts.")
        if not 0 <= self.seed < 2**62:
            raise InvalidInput(f"seed must be 0 … 2^62 - 1; got {self.seed}.")
        if self.batch_size < 1:
            raise InvalidInput(f"batch_size must be at least 1; got {self.batch_size}.")

    @property
    def longest(self) -> int:
        return max(self.scale.lengths)
