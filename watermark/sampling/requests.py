"""What goes into a generation and what comes out of it. Plain values: no model, no tensor."""

from __future__ import annotations

from dataclasses import dataclass, field

from watermark.codebook.keys import IssuerKey
from watermark.errors import InvalidInput

MAX_TOP_K = 1024
"""Marking works on the top-k candidates only; beyond this many the rest of the vocabulary carries no weight."""
MAX_STOPS = 8
MAX_STOP_CHARACTERS = 100


@dataclass(frozen=True)
class SamplingSettings:
    """How to draw tokens. `temperature` 0 or `top_k` 1 is greedy decoding, which leaves no room for a mark."""

    max_new_tokens: int = 200
    min_new_tokens: int = 0
    """The end-of-text token is not drawn before this many tokens."""
    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 1.0
    seed: int | None = None
    """None draws a fresh seed; the one used is reported in the result."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these strings that appears in it."""

    def __post_init__(self) -> None:
        checks = [
            (self.max_new_tokens >= 1, "max_new_tokens", "at least 1", self.max_new_tokens),
            (0 <= self.min_new_tokens <= self.max_new_tokens, "min_new_tokens", "0 … max_new_tokens", self.min_new_tokens),
            (0.0 <= self.temperature <= 10.0, "temperature", "0 … 10", self.temperature),
            (1 <= self.top_k <= MAX_TOP_K, "top_k", f"1 … {MAX_TOP_K}", self.top_k),
            (0.0 < self.top_p <= 1.0, "top_p", "above 0 and at most 1", self.top_p),
            (self.seed is None or 0 <= self.seed < 2**63, "seed", "0 … 2^63 - 1", self.seed),
            (len(self.stop) <= MAX_STOPS, "stop", f"at most {MAX_STOPS} strings", len(self.stop)),
            (
                all(0 < len(s) <= MAX_STOP_CHARACTERS for s in self.stop),
                "stop",
                f"strings of 1 … {MAX_STOP_CHARACTERS} characters",
                self.stop,
            ),
        ]
        for ok, name, allowed, value in checks:
            if not ok:  # NaN fails every comparison, so it ends here too
                raise InvalidInput(f"{name} must be {allowed}; got {value!r}.")


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt with everything that conditions its continuation; requests in a batch are independent."""

    prompt: str | tuple[int, ...]
    """Text, or the token ids of a prompt that was tokenised before (begin-of-text token included)."""
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    key: IssuerKey | None = None
    """Who marks the text; None writes unmarked text."""
    payload: int = 0
    """The message beside the issuer, `0 … 2**key.payload_bits - 1`."""
    strength: float = 1.0
    """0 … 1. 0 is off: the very tokens of the unmarked model with the same seed."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise InvalidInput(f"strength must be 0 … 1; got {self.strength!r}.")
        bits = self.key.payload_bits if self.key else 0
        if not 0 <= self.payload < 2**bits:
            raise InvalidInput(f"payload {self.payload:#x} does not fit the {bits} payload bits of this issuer.")


@dataclass(frozen=True)
class Marking:
    """What the mark in one generated text amounts to, measured on the finished text before it is handed out."""

    watermark: bool
    """True when the text itself, re-read as a verifier would, shows the mark at the default false-positive rate."""
    issuer: str | None
    payload: str | None
    """Hexadecimal, or None for an issuer without payload bits."""
    tokens: int
    """New tokens written."""
    marked_tokens: int
    """Those drawn from a reweighted distribution (the rest had one candidate or a repeated context)."""
    p_value: float | None
    """Of the self-check, corrected for all candidates of this issuer; None when nothing was marked."""
    reason: str | None
    """Why `watermark` is False, in a sentence; None when it is True."""


@dataclass(frozen=True)
class GenerationResult:
    text: str
    """The continuation only, without the prompt."""
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: str
    """`stop` (end-of-text token or a stop string) or `length`."""
    seed: int
    marking: Marking
