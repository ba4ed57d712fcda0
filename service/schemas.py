"""Requests and answers of the API. Field names are those of the library (see `watermark.sampling` and `watermark.statistics`)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from watermark.codebook.keys import MAX_PAYLOAD_BITS, NAME_PATTERN
from watermark.sampling.requests import MAX_TOP_K

MAX_LIST = 256
"""Longest list in any request; the operator may allow less."""
HEXADECIMAL = re.compile("[0-9a-fA-F]{1,16}")


class Request(BaseModel):
    """Unknown fields, numbers in quotes, NaN and Infinity are refused: a typo must not become a silent default."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Answer(BaseModel):
    """Filled from the library's values by their field names."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"Character {error.start} is half of a surrogate pair, which is no character; send whole characters") from None
    return text


def _issuer_name(name: str) -> str:
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError("It should be 1 to 63 lower-case letters, digits, '.', '_' or '-', the first a letter or a digit")
    return name


def _hexadecimal(payload: str) -> str:
    if not HEXADECIMAL.fullmatch(payload):
        raise ValueError("It should be 1 to 16 hexadecimal digits")
    return payload


def _one_or_list(value: Any) -> str:
    return "text" if isinstance(value, str) else "list"


Text = Annotated[str, AfterValidator(_encodable)]
TextOrList = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Text], Field(min_length=1, max_length=MAX_LIST, fail_fast=True), Tag("list")],
    Discriminator(_one_or_list),
]
# The patterns are for the OpenAPI document; pydantic's own message would quote them at people.
IssuerName = Annotated[str, AfterValidator(_issuer_name), Field(json_schema_extra={"pattern": f"^{NAME_PATTERN.pattern}$"})]
Payload = Annotated[str, AfterValidator(_hexadecimal), Field(json_schema_extra={"pattern": f"^{HEXADECIMAL.pattern}$"})]


class GenerateRequest(Request):
    """Prompts to continue, and how to mark and draw the continuations."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "The harbour was quiet that morning, and", "issuer": "default", "max_new_tokens": 200},
                {"prompt": ["Dear reader,", "Once upon a time"], "temperature": 0.8, "seed": 7},
            ]
        }
    )

    prompt: TextOrList = Field(
        description="One prompt, or a list of prompts that are answered in the same order. Prompts are never marked."
    )
    issuer: IssuerName | None = Field(
        None, description="Whose key marks the text. Left out: the issuer `default`, or the only one there is.", examples=["default"]
    )
    payload: Payload | None = Field(
        None, description="Message in the mark, for issuers with payload bits: up to 16 hexadecimal digits. Left out: 0.", examples=["2a"]
    )
    strength: float = Field(1.0, ge=0, le=1, description="How far the mark reweights the model's choices. 0 is off: unmarked text.")
    max_new_tokens: int = Field(200, ge=1, description="Tokens to write at most. Short texts carry weak marks.")
    min_new_tokens: int = Field(0, ge=0, description="The model may not end the text before this many tokens.")
    temperature: float = Field(1.0, ge=0, le=10, description="0 always takes the likeliest token, which leaves no room for a mark.")
    top_k: int = Field(64, ge=1, le=MAX_TOP_K, description="Draw among this many likeliest tokens. 1 leaves no room for a mark.")
    top_p: float = Field(1.0, gt=0, le=1, description="Draw among the likeliest tokens that hold this much probability together.")
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="Makes the answer repeatable. In a list, each prompt's seed is derived from this one and its place. Left out: random.",
    )


class VerifyRequest(Request):
    """Texts to test for the mark of any issuer, or of those named."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Some text whose origin is in question.", "detail": "public"}]})

    text: TextOrList = Field(description="One text, or a list that is answered in the same order. The prompt is not needed.")
    issuers: Annotated[list[IssuerName], Field(min_length=1, max_length=MAX_LIST, fail_fast=True)] | None = Field(
        None, description="Whose marks to look for. Each issuer tried costs a little certainty. Left out: all."
    )
    false_positive_rate: float = Field(
        1e-3, gt=0, lt=1, description="How often an unmarked text may be called marked. The p-value is held against it."
    )
    detail: Literal["public", "full"] = Field(
        "full",
        description="`public` is a coarse answer that helps nobody to remove or forge marks: p-values rounded up to a power of ten, "
        "and no confidences, segments or evidence.",
    )


class Marking(Answer):
    """What the mark in a generated text amounts to, measured on the finished text before it was handed out."""

    watermark: bool = Field(description="True when mark and payload can be read from the text itself at the default false-positive rate.")
    issuer: str | None
    payload: str | None = Field(description="Message written, hexadecimal; null for an issuer without payload bits.")
    tokens: int = Field(description="New tokens written.")
    marked_tokens: int = Field(description="Those drawn from a reweighted distribution.")
    p_value: float | None = Field(description="Of the self-check; null when nothing was marked.")
    reason: str | None = Field(description="Why `watermark` is false; null when it is true.")


class Usage(Answer):
    prompt_tokens: int
    new_tokens: int


class Timings(Answer):
    """Seconds of this request."""

    waited_seconds: float = Field(description="In the queue, until its first item was begun.")
    worked_seconds: float = Field(description="From then until its last item was done.")


class GeneratedText(Answer):
    text: str = Field(description="The continuation only, without the prompt.")
    marking: Marking
    usage: Usage
    finish_reason: str = Field(description="`stop` (the model ended the text) or `length` (max_new_tokens).", examples=["length"])
    seed: int = Field(description="Send it as `seed`, with this prompt as a single string, to get this text again.")


class GenerateAnswer(Answer):
    results: list[GeneratedText]
    model: str = Field(description="The frozen language model.")
    checkpoint: str = Field(description="The watermark checkpoint.")
    timings: Timings


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


class VerifyAnswer(Answer):
    results: list[Verdict]
    model: str
    checkpoint: str
    timings: Timings


class Issuer(Answer):
    name: str
    payload_bits: int = Field(ge=0, le=MAX_PAYLOAD_BITS, description="Bits of message that its marks carry beside the name.")


class IssuersAnswer(Answer):
    issuers: list[Issuer]


class Live(Answer):
    status: Literal["alive"]


class Readiness(Answer):
    """Whether requests are served now, and by what."""

    status: Literal["ready", "loading", "failed", "worker_down", "draining"]
    detail: str
    model: str
    checkpoint: str | None = Field(description="Null until it is loaded.")
    waiting_prompts: int
    waiting_texts: int
    max_new_tokens: int
    max_prompt_characters: int
    max_text_characters: int


class ProblemPlace(Answer):
    pointer: str = Field(description="JSON pointer into the request body.")
    detail: str
    code: str


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable; `detail` is for people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ProblemPlace] | None = None
    item: int | None = Field(None, description="Which item of a list failed while it was worked on; counted from 0.")
    error_id: str | None = Field(None, description="Of an unexpected error: find it in the server's log.")
