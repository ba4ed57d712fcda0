"""From the best candidate and its p-value to a verdict in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from watermark.codebook.codewords import Candidate
from watermark.errors import InvalidInput
from watermark.statistics.verdict import TokenEvidence, Verdict

MARKED = (
    "This text carries the mark of issuer {issuer!r}. A text written without that issuer's key would score this high with "
    "probability {p} (all {candidates} candidates tried are accounted for); the threshold is {rate}. "
    "It means that part of the wording was drawn with that key. It does not mean that every sentence was: marked text may have "
    "been edited or pasted into other text. Nor does it say who submitted the text, or whether what it says is true."
)
NOT_DETECTED = (
    "No mark of the issuers tried was found in {tokens}: a text without any mark scores this high with probability {p}, "
    "which is not below the threshold of {rate}. It does not mean that a person wrote the text: it may come from another model or "
    "an issuer not tried, or its mark may have been lost to editing, translation or dilution."
)
INSUFFICIENT = (
    "The text is too short to tell: it has {tokens}, and below {min_tokens} even marked text is often not recognised. "
    "No mark was found (probability {p} without any mark, threshold {rate}), and neither its absence nor its presence follows. "
    "Give a longer text."
)


def decide(
    best: Candidate | None,
    p_value: float,
    *,
    false_positive_rate: float,
    tokens: int,
    min_tokens: int,
    candidates: int,
    evidence: Sequence[TokenEvidence] | None = None,
) -> Verdict:
    """The verdict on one text. `p_value` is that of `best`, corrected for all `candidates` tried.

    Below the false-positive rate the text is `marked`, at any length: a short text pays in its p-value already. Otherwise
    it is `insufficient_text` when shorter than `min_tokens` tokens, else `not_detected`, and names nobody and nothing.
    `best` may be None only where nothing could be scored (an empty text: p = 1). `evidence` is kept only with `marked`.
    """
    if not 0.0 < false_positive_rate < 1.0:
        raise InvalidInput(f"The false-positive rate must be above 0 and below 1; got {false_positive_rate!r}.")
    if not 0.0 < p_value <= 1.0:
        raise InvalidInput(f"A p-value must be above 0 and at most 1; got {p_value!r}.")
    issuer = payload = None
    name = "insufficient_text" if tokens < min_tokens else "not_detected"
    if p_value < false_positive_rate:
        if best is None:
            raise InvalidInput("A significant p-value needs the candidate that it belongs to.")
        name, issuer = "marked", best.issuer
        payload = f"{best.payload:0{-(-best.payload_bits // 4)}x}" if best.payload_bits else None
    text = {"marked": MARKED, "not_detected": NOT_DETECTED, "insufficient_text": INSUFFICIENT}[name]
    return Verdict(
        verdict=name,
        issuer=issuer,
        payload=payload,
        p_value=p_value,
        false_positive_rate=false_positive_rate,
        tokens=tokens,
        candidates=candidates,
        explanation=text.format(
            issuer=issuer,
            p=_plain(p_value),
            rate=_plain(false_positive_rate),
            candidates=f"{candidates:,}",
            tokens=f"{tokens:,} token{'s' * (tokens != 1)}",
            min_tokens=min_tokens,
        ),
        evidence=tuple(evidence) if evidence is not None and name == "marked" else None,
    )


def _plain(p: float) -> str:
    """0.034, 0.001, or 1 in powers of ten for what nobody can count zeros of."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.1e}"
