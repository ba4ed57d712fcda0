"""Prompts and human passages from JSON lines, plain or gzipped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from watermark.base_model import FrozenLM
from watermark.errors import InvalidInput
from watermark.records import read_records

MIN_PROMPT_WORDS = 5
MAX_PROMPT_TOKENS = 200


@dataclass(frozen=True)
class Prompt:
    text: str
    human: str
    """How a person went on; may be empty."""
    source: str


@dataclass(frozen=True)
class Passage:
    text: str
    source: str


def read_prompts(path: Path) -> list[Prompt]:
    """Records {"prompt", "human", "source"}; those with fewer than `MIN_PROMPT_WORDS` words are left out."""
    found = []
    for number, record in enumerate(read_records(path), start=1):
        text, human, source = record.get("prompt"), record.get("human") or "", record.get("source") or path.name.split(".")[0]
        if not isinstance(text, str) or not isinstance(human, str):
            raise InvalidInput(f'{path}, record {number}: "prompt" must be a text, and "human" one where it is given.')
        if len(text.split()) >= MIN_PROMPT_WORDS:
            found.append(Prompt(text.strip(), human.strip(), str(source)))
    if not found:
        raise InvalidInput(f"{path}: no prompt of at least {MIN_PROMPT_WORDS} words.")
    return found


def read_passages(path: Path) -> list[Passage]:
    """Records {"text", "source"}."""
    found = []
    for number, record in enumerate(read_records(path), start=1):
        if not isinstance(record.get("text"), str):
            raise InvalidInput(f'{path}, record {number}: "text" must be a text.')
        found.append(Passage(record["text"].strip(), str(record.get("source") or path.name.split(".")[0])))
    return found


def draw_prompts(sets: Sequence[Sequence[Prompt]], count: int, seed: int) -> list[Prompt]:
    """`count` prompts, one set after the other in turn, each set in an order drawn from the seed; fewer where all run out.

    A longer draw begins with the shorter one.
    """
    orders = [
        [prompts[int(i)] for i in np.random.default_rng([seed, number]).permutation(len(prompts))] for number, prompts in enumerate(sets)
    ]
    rounds = max(map(len, orders), default=0)
    return [order[turn] for turn in range(rounds) for order in orders if turn < len(order)][:count]


def last_tokens(lm: FrozenLM, text: str, count: int = MAX_PROMPT_TOKENS) -> str:
    """The end of a text, `count` tokens of it at most."""
    tokens = lm.tokenize(text)
    return text if len(tokens.ids) - tokens.prefix <= count else text[tokens.offsets[-count][0] :]


def first_tokens(lm: FrozenLM, text: str, count: int) -> str | None:
    """The beginning of a text, cut after `count` tokens; None when it is shorter."""
    tokens = lm.tokenize(text)
    return None if len(tokens.ids) - tokens.prefix < count else text[: tokens.offsets[tokens.prefix + count - 1][1]]


def file_digest(path: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
