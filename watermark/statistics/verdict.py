"""The graded answer of a verification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VerdictName = Literal["marked", "not_detected", "insufficient_text"]


@dataclass(frozen=True)
class TokenEvidence:
    """Evidence of one token for the codeword found, in units of the standard deviation of the whole text's statistic."""

    start: int
    """Offset of the token's first character in the text."""
    end: int
    score: float


@dataclass(frozen=True)
class Verdict:
    """One text's verdict. `issuer` and `payload` are set only with `marked`: never a message without detection."""

    verdict: VerdictName
    issuer: str | None
    payload: str | None
    """Hexadecimal; None without payload bits."""
    p_value: float
    """Chance that a text independent of all keys tried scores this high, corrected for every candidate tried."""
    false_positive_rate: float
    """The threshold that `p_value` was held against."""
    tokens: int
    """Tokens of the text after re-tokenisation."""
    candidates: int
    """Codewords tried: issuers x payloads x nonces."""
    explanation: str
    """The verdict in plain words, with what it does and does not mean."""
    evidence: tuple[TokenEvidence, ...] | None = None
    """Per token, only at full detail and only with `marked`."""
