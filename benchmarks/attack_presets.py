"""How large a run of `benchmarks.secret_safety` is: what it writes, and which attacks it tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Knowledge = Literal["checkpoint", "codes"]
Source = Literal["generated", "re-signed"]


@dataclass(frozen=True)
class Forgery:
    """Forgeries to write: from how many texts of an issuer with 2^nonce_bits codewords, knowing what, pushing how hard."""

    nonce_bits: int
    texts: int
    push: float = 1.0
    knowledge: Knowledge = "checkpoint"
    source: Source = "generated"

    @property
    def name(self) -> str:
        return f"forged-{self.knowledge}-{self.source}-{self.nonce_bits}-{self.texts}-{self.push:g}"


@dataclass(frozen=True)
class Preset:
    tokens: int
    unmarked: int
    single: int
    """Marked texts with one codeword."""
    nonces: int
    """Marked texts with the checkpoint's nonces."""
    aside: int
    """Texts of each of the three kinds that stand for the attacker's own."""
    held_out: int
    """Texts of each of the three kinds to be told apart, or to simulate forgeries from."""
    batch: int
    forged: int
    forgeries: tuple[Forgery, ...]
    counts: tuple[int, ...]
    simulated_bits: tuple[int, ...]
    trials: int
    resamples: int
    guesses: int
    questions: int
    asking: int
    """Attacks on a verifier's answers, each with a fresh key."""


PRESETS = {
    "full": Preset(
        tokens=100,
        unmarked=256,
        single=256,
        nonces=448,
        aside=64,
        held_out=128,
        batch=64,
        forged=48,
        forgeries=(
            Forgery(0, 1),
            Forgery(0, 2),
            Forgery(0, 4),
            Forgery(4, 1),
            Forgery(4, 1, push=3.0),
            Forgery(4, 8),
            Forgery(4, 32),
            Forgery(8, 1, push=3.0, source="re-signed"),
            Forgery(0, 256, knowledge="codes", source="re-signed"),
        ),
        counts=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        simulated_bits=(0, 4, 6, 8, 12),
        trials=32,
        resamples=300,
        guesses=64,
        questions=10_000,
        asking=32,
    ),
    "small": Preset(
        tokens=60,
        unmarked=32,
        single=32,
        nonces=32,
        aside=12,
        held_out=8,
        batch=32,
        forged=4,
        forgeries=(Forgery(0, 4), Forgery(4, 1, push=3.0), Forgery(0, 8, knowledge="codes", source="re-signed")),
        counts=(1, 4, 16, 64),
        simulated_bits=(0, 4, 8),
        trials=4,
        resamples=50,
        guesses=8,
        questions=2000,
        asking=4,
    ),
}
