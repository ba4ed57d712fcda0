"""What a client of the load test does next: drawn from its own seed, so that a run can be repeated."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Literal

from benchmarks.load_texts import PROMPTS, prose

STREAMED = 0.5
LEFT_EARLY = 0.3
"""Share of the streams that their client leaves midway."""
LISTS = 0.15
LIST_LENGTHS = (2, 6)
GENERATED = 0.5
"""Share of the texts to verify that the service wrote, once it has written some."""
WORDS = (50, 250)
NEW_TOKENS = (30, 120)
THINKING = (1.0, 5.0)
"""Seconds between an answer and the next request."""
KEPT = 500

Kind = Literal["generate", "generate_stream", "generate_left", "verify_single", "verify_list"]


@dataclass(frozen=True)
class Written:
    """A text whose origin is known."""

    text: str
    marked: bool


@dataclass(frozen=True)
class Generate:
    prompt: str
    new_tokens: int
    stream: bool
    leave_after: int | None
    """Pieces after which the client hangs up."""
    seed: int

    @property
    def kind(self) -> Kind:
        return "generate_left" if self.leave_after else "generate_stream" if self.stream else "generate"


@dataclass(frozen=True)
class Verify:
    texts: tuple[Written, ...]

    @property
    def kind(self) -> Kind:
        return "verify_single" if len(self.texts) == 1 else "verify_list"


class Pool:
    """Texts that the service wrote and could read the mark of, the latest ones. Shared by all clients."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque(maxlen=KEPT)

    def add(self, text: str) -> None:
        self._texts.append(text)

    def draw(self, random: Random) -> Written:
        if self._texts and random.random() < GENERATED:
            return Written(random.choice(self._texts), True)
        return Written(prose(random, random.randint(*WORDS)), False)


class Plan:
    """Of one client. It begins with a text to write, as a session does: the load is then from the start what it will be in the end."""

    def __init__(self, seed: int, client: int, verify_share: float, pool: Pool) -> None:
        self._seed, self._verify_share, self._pool = f"{seed}/{client}", verify_share, pool
        self._steps = 0

    def next(self) -> Generate | Verify:
        self._steps += 1
        random = Random(f"{self._seed}/{self._steps}")  # of each step: what the pool holds by then must not change the steps that follow
        if self._steps > 1 and random.random() < self._verify_share:
            count = random.randint(*LIST_LENGTHS) if random.random() < LISTS else 1
            return Verify(tuple(self._pool.draw(random) for _ in range(count)))
        tokens, stream = random.randint(*NEW_TOKENS), random.random() < STREAMED
        leave_after = random.randint(1, tokens // 2) if stream and random.random() < LEFT_EARLY else None
        return Generate(random.choice(PROMPTS), tokens, stream, leave_after, random.getrandbits(32))

    def pause(self) -> float:
        """Seconds."""
        return Random(f"{self._seed}/pause/{self._steps}").uniform(*THINKING)
