"""`POST /generate`: prompts in, marked text out."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from service.schemas.common import Answer, IssuerName, Payload, Request, Text, TextOrList, Timings
from watermark.sampling.requests import MAX_STOP_CHARACTERS, MAX_STOPS, MAX_TOP_K

Stop = Annotated[Text, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]


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
    stop: Annotated[list[Stop], Field(min_length=1, max_length=MAX_STOPS)] | None = Field(
        None, description="A text ends before the first of these strings that appears in it.", examples=[["\n\n"]]
    )
    stream: bool = Field(
        False,
        description="Answer with server-sent events while the text is written: `piece` (Piece), then one `result` a prompt "
        "(StreamedResult), then `done` (StreamEnd), or `error` (Problem) in their place.",
    )
    receipt: bool = Field(
        True, description="Keep a signed receipt: issuer, time and a hash of each marked text, never the text. GET /receipts/{id}."
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


class GeneratedText(Answer):
    id: str = Field(description="Of this text, for support and logs.")
    text: str = Field(description="The continuation only, without the prompt.")
    marking: Marking
    usage: Usage
    finish_reason: str = Field(description="`stop` (the model ended the text, or a stop string came) or `length`.", examples=["length"])
    seed: int = Field(description="Send it as `seed`, with this prompt as a single string, to get this text again.")
    receipt_id: str | None = Field(description="GET /receipts/{id}; null when none was asked for or nothing was marked.")


class GenerateAnswer(Answer):
    id: str = Field(description="Of this request.")
    results: list[GeneratedText]
    model: str = Field(description="The frozen language model.")
    checkpoint: str = Field(description="The watermark checkpoint.")
    timings: Timings


class Piece(Answer):
    """Text written since the last piece of the same prompt."""

    index: int = Field(description="Place of the prompt in the request, from 0.")
    text: str
    tokens: int = Field(description="New tokens of this prompt so far.")


class StreamedResult(GeneratedText):
    """The finished text. It equals its pieces put together."""

    index: int


class StreamEnd(Answer):
    """Sent last, when every prompt has its result."""

    id: str
    model: str
    checkpoint: str
    timings: Timings
