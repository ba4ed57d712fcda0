"""`POST /verify`: texts in, verdicts out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from service.schemas.common import MAX_LIST, Answer, IssuerName, Request, TextOrList, Timings


class VerifyRequest(Request):
    """Texts to test for the mark of any issuer, or of those named."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Some text whose origin is in question.", "detail": "public"}]})

    text: TextOrList = Field(description="One text, or a list that is answered in the same order. The prompt is not needed.")
    issuers: Annotated[list[IssuerName], Field(min_length=1, max_length=MAX_LIST, fail_fast=True)] | None = Field(
        None,
        description="Whose marks to look for. Each issuer tried costs a little certainty. Left out: all. "
        "Callers without an API key cannot choose them.",
    )
    false_positive_rate: float = Field(
        1e-3,
        gt=0,
        lt=1,
        description="How often an unmarked text may be called marked. The p-value is held against it. "
        "Callers without an API key cannot choose it.",
    )
    detail: Literal["public", "full"] | None = Field(
        None,
        description="`public` is a coarse answer that helps nobody to remove or forge marks: p-values rounded up to a power of ten, "
        "and no confidences, segments or evidence. Left out: `full` with an API key, `public` without.",
    )


class TokenEvidence(Answer):
    """Evidence of one token for the mark found, in standard deviations of the whole text's statistic."""

    start: int = Field(description="Offset of its first character, in Unicode code points.")
    end: int
    score: Annotated[float, AfterValidator(lambda score: round(score, 4))]


class PayloadBit(Answer):
    """One bit of the message."""

    value: Literal[0, 1] | None = Field(description="Null where neither value is sure enough: the bit is erased.")
    confidence: float = Field(description="Probability of the likelier value, 0.5 … 1.")


class Segment(Answer):
    """A passage that carries a mark. Where it begins and ends is an estimate; its p-value is not."""

    start: int = Field(description="Offset of its first character, in Unicode code points.")
    end: int
    tokens: int
    issuer: str = Field(description="Whose mark it is; a text may hold passages of several issuers.")
    key_version: int = Field(description="Which of the issuer's keys it was marked with.")
    payload: str | None = Field(description="Hexadecimal; null without payload bits, and where the message cannot be read.")
    payload_confidence: float | None = Field(description="Probability of the likeliest message; null without payload bits.")
    p_value: float = Field(description="As that of the whole text, corrected also for every part of the text that was searched.")


class Verdict(Answer):
    """One text's verdict. An issuer and a payload are named only with `marked`.

    An issuer whose marks carry a message may be certain while the message is not: then `payload` is null, `payload_bits` says
    which of its bits can be read, and `explanation` says so in words.
    """

    verdict: Literal["marked", "not_detected", "insufficient_text"]
    issuer: str | None
    key_version: int | None = Field(description="Which of the issuer's keys: 1 is the first, each rotation adds one.")
    payload: str | None = Field(
        description="Message in the mark, hexadecimal. Null without payload bits, and where a mark is found but its message is erased, "
        "that is, too uncertain to be given: `payload_bits` tells the two apart."
    )
    payload_confidence: float | None = Field(
        description="Probability of the likeliest message; below 0.95 the payload is null. Null without payload bits and at public detail."
    )
    payload_bits: list[PayloadBit] | None = Field(
        description="The message bit by bit, the highest first. Null without payload bits and at public detail."
    )
    p_value: float = Field(
        description="Chance that a text independent of all keys tried scores this high, corrected for everything tried. The verdict "
        "rests on it: the larger one of exact_p_value and the one that knows how unmarked texts lean towards this key."
    )
    exact_p_value: float = Field(description="The same for a key drawn at random: exact, whatever the text.")
    false_positive_rate: float = Field(description="The threshold that p_value was held against.")
    tokens: int = Field(description="Tokens of the text.")
    candidates: int = Field(
        description="Codewords tried: issuers x payloads x nonces. With long payloads beyond 2^53, where JavaScript's numbers round."
    )
    windows: int = Field(description="Parts of the text that were searched besides the whole; 0 for short texts.")
    expected_detection: float | None = Field(
        description="Share of unedited marked texts of this length that would be found; null when the checkpoint has no calibration. "
        "`insufficient_text` means that it is too low for a missing mark to say anything."
    )
    explanation: str = Field(description="The verdict in plain words, with what it does and does not mean.")
    segments: list[Segment] = Field(
        description="Passages that carry a mark, by their start; they do not overlap. Empty unless `marked`, and at public detail."
    )
    evidence: list[TokenEvidence] | None = Field(description="Per token; only at full detail and only with `marked`.")
    receipts: list[str] | None = Field(
        None, description="Ids of receipts whose text was this one or nearly so, whatever the mark says; null at public detail."
    )


class VerifyAnswer(Answer):
    results: list[Verdict]
    model: str
    checkpoint: str
    timings: Timings
