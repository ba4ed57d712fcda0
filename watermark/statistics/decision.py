"""From p-values and what was found to a verdict in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from watermark.errors import InvalidInput
from watermark.statistics.posterior import DecodedPayload
from watermark.statistics.verdict import Segment, TokenEvidence, Verdict, hexadecimal

MARKED = (
    "This text carries the mark of issuer {issuer!r}{where}. A text written without that issuer's key would score this high with "
    "probability {p} (everything tried is accounted for: {tried}); the threshold is {rate}. {payload}"
    "It means that part of the wording was drawn with that key. It does not mean that every sentence was: marked text may have "
    "been edited or pasted into other text. Nor does it say who submitted the text, or whether what it says is true."
)
ERASED = "A message is in the mark, but it cannot be read with enough confidence, so none is given. "
NOT_DETECTED = (
    "No mark of the issuers tried was found in {tokens}: a text without any mark scores this high with probability {p}, "
    "which is not below the threshold of {rate}.{power} It does not mean that a person wrote the text: it may come from another model or "
    "an issuer not tried, or its mark may have been lost to editing, translation or dilution."
)
POWER = " Of marked texts this long, {share} are found when nobody edited them."
INSUFFICIENT = (
    "The text is too short to tell: it has {tokens}.{power} "
    "No mark was found (probability {p} without any mark, threshold {rate}), and neither its absence nor its presence follows. "
    "Give a longer text."
)
COARSEST = 1e-12
"""Public answers do not tell p-values below it apart."""


@dataclass(frozen=True)
class Findings:
    """What the tests of one text came to."""

    issuer: str | None
    """The issuer that the smallest p-value belongs to; None where nothing could be scored (an empty text)."""
    key_version: int | None
    """Of that issuer's key."""
    payload: DecodedPayload | None
    """Of that issuer; None without payload bits, or when the p-value is not significant."""
    p_value: float
    exact_p_value: float
    tokens: int
    candidates: int
    windows: int
    expected_detection: float | None
    sufficient: bool
    """Whether a missing mark means anything at this length."""
    segments: Sequence[Segment] = ()
    evidence: Sequence[TokenEvidence] | None = None


def decide(found: Findings, false_positive_rate: float, *, public: bool = False) -> Verdict:
    """The verdict on one text.

    Below the false-positive rate the text is `marked`, at any length: a short text pays in its p-value already. Otherwise
    it is `insufficient_text` when it is too short, else `not_detected`, and names nobody and nothing. Raises InvalidInput.

    A public answer is coarse: p-values are rounded up to a power of ten (not across the threshold), and confidences, segments and
    evidence are left out. Nothing in it rewards small changes of a text, so that it is a poor guide to removing or forging marks.
    """
    check_rate(false_positive_rate)
    for p in (found.p_value, found.exact_p_value):
        if not 0.0 < p <= 1.0:
            raise InvalidInput(f"A p-value must be above 0 and at most 1; got {p!r}.")
    marked = found.p_value < false_positive_rate
    if marked and (found.issuer is None or found.key_version is None):
        raise InvalidInput("A significant p-value needs the issuer and the key version that it belongs to.")
    name = "marked" if marked else "not_detected" if found.sufficient else "insufficient_text"
    message = found.payload if marked else None
    p_value = _rounded_up(found.p_value, false_positive_rate) if public else found.p_value
    text = {"marked": MARKED, "not_detected": NOT_DETECTED, "insufficient_text": INSUFFICIENT}[name]
    return Verdict(
        verdict=name,
        issuer=found.issuer if marked else None,
        key_version=found.key_version if marked else None,
        payload=hexadecimal(message.value, len(message.bits)) if message and message.value is not None else None,
        payload_confidence=message.confidence if message and not public else None,
        payload_bits=message.bits if message and not public else None,
        p_value=p_value,
        exact_p_value=p_value if public else found.exact_p_value,
        false_positive_rate=false_positive_rate,
        tokens=found.tokens,
        candidates=found.candidates,
        windows=found.windows,
        expected_detection=found.expected_detection,
        explanation=text.format(
            issuer=found.issuer,
            where="" if public else _where(found),
            p=("at most " if public else "") + _plain(p_value),
            rate=_plain(false_positive_rate),
            tried=_tried(found),
            tokens=_tokens(found.tokens),
            payload=ERASED if message and message.value is None else "",
            power="" if found.expected_detection is None else POWER.format(share=_percent(found.expected_detection)),
        ),
        segments=tuple(found.segments) if marked and not public else (),
        evidence=tuple(found.evidence) if marked and not public and found.evidence is not None else None,
    )


def _rounded_up(p: float, false_positive_rate: float) -> float:
    rounded = min(1.0, max(COARSEST, 10.0 ** math.ceil(math.log10(p) - 1e-12)))
    return math.nextafter(false_positive_rate, 0.0) if p < false_positive_rate <= rounded else rounded


def check_rate(false_positive_rate: float) -> None:
    if not 0.0 < false_positive_rate < 1.0:
        raise InvalidInput(f"The false-positive rate must be above 0 and below 1; got {false_positive_rate!r}.")


def _where(found: Findings) -> str:
    own = [segment.tokens for segment in found.segments if segment.issuer == found.issuer]
    inside = sum(own)
    if not inside or inside >= 0.9 * found.tokens:
        return ""
    passages = "one passage" if len(own) == 1 else f"{len(own)} passages"
    return f" in {passages} of {inside:,} of its {_tokens(found.tokens)}"


def _tried(found: Findings) -> str:
    candidates = f"{found.candidates:,}" if found.candidates < 10**9 else f"{found.candidates:.1e}"
    return f"{candidates} candidates" + (f" on the text and {found.windows:,} parts of it" if found.windows else "")


def _tokens(count: int) -> str:
    return f"{count:,} token{'s' * (count != 1)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share < 0.99 else f"{100 * share:.1f} %"


def _plain(p: float) -> str:
    """0.034, 0.001, or 1 in powers of ten for what nobody can count zeros of."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.1e}"
