"""The graded answer of a verification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from watermark.statistics.posterior import PayloadBit

VerdictName = Literal["marked", "not_detected", "insufficient_text"]


@dataclass(frozen=True)
class TokenEvidence:
    """Evidence of one token for the codeword found, in units of the standard deviation of the whole text's statistic."""

    start: int
    """Offset of the token's first character in the text."""
    end: int
    score: float


@dataclass(frozen=True)
class Segment:
    """A stretch of the text that carries a mark. Its ends are estimates, its p-value is not."""

    start: int
    """Offset of its first character in the text."""
    end: int
    tokens: int
    issuer: str
    key_version: int
    """Which of the issuer's keys it was marked with."""
    payload: str | None
    """Hexadecimal; None without payload bits, or where the payload is erased."""
    payload_confidence: float | None
    p_value: float
    """Corrected for every window and every codeword searched."""


@dataclass(frozen=True)
class Verdict:
    """One text's verdict. `issuer` and `payload` are set only with `marked`: never a message without detection."""

    verdict: VerdictName
    issuer: str | None
    key_version: int | None
    """Which of the issuer's keys the text was marked with; present where `issuer` is."""
    payload: str | None
    """Hexadecimal; None without payload bits, and where the text is marked but no message is sure enough (an erasure)."""
    payload_confidence: float | None
    """Posterior probability of the likeliest message; None without payload bits."""
    payload_bits: tuple[PayloadBit, ...] | None
    """The message bit by bit, the highest first, each with its confidence or erased; None without payload bits."""
    p_value: float
    """Chance that a text independent of all keys tried scores this high, corrected for everything tried: the larger one of
    `exact_p_value` and the one that takes into account how unmarked texts lean towards this key."""
    exact_p_value: float
    """The same for a key drawn at random: exact, whatever the text."""
    false_positive_rate: float
    """The threshold that `p_value` was held against."""
    tokens: int
    """Tokens of the text after re-tokenisation."""
    candidates: int
    """Codewords tried: issuers x payloads x nonces. May be beyond 2^64."""
    windows: int
    """Parts of the text searched besides the whole; 0 for short texts."""
    expected_detection: float | None
    """Share of unedited marked texts of this length that would be found among so many candidates; None without calibration."""
    explanation: str
    """The verdict in plain words, with what it does and does not mean."""
    segments: tuple[Segment, ...] = ()
    """Where marks were found, by their start; they do not overlap. Only with `marked`."""
    evidence: tuple[TokenEvidence, ...] | None = None
    """Per token, only at full detail and only with `marked`."""


def hexadecimal(payload: int, payload_bits: int) -> str:
    """A payload with as many digits as its bits need."""
    return f"{payload:0{-(-payload_bits // 4)}x}"
