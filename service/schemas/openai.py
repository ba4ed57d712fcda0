"""The OpenAI-compatible endpoints: requests as the `openai` client sends them, with what is ours under the one key `countersign`.

Fields of OpenAI's API that this service has nothing for are taken with their neutral value only: to ignore a penalty or a tool
in silence would be worse than to refuse it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Tag
from pydantic_core import PydanticCustomError, core_schema

from service.schemas.common import MAX_LIST, Answer, IssuerName, Payload, Request, Text, TextOrList, Timings
from service.schemas.generate import GenerateRequest, Marking, Stop
from watermark.sampling.requests import MAX_STOPS, MAX_TOP_K

DEFAULT_MAX_TOKENS: int = GenerateRequest.model_fields["max_new_tokens"].default


@dataclass(frozen=True, eq=False)  # Annotated takes equal arguments for one, and 0 equals False
class Neutral:
    """Accepts null, and the value that changes nothing."""

    values: tuple[Any, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def check(value: Any) -> None:
            if value is not None and value not in self.values:
                allowed = " or ".join(map(json.dumps, self.values)) or "null"
                message = f"This service does not have this parameter; leave it out or send {allowed}"
                raise PydanticCustomError("unsupported_parameter", "{message}", {"message": message})

        return core_schema.no_info_plain_validator_function(check)

    def __get_pydantic_json_schema__(self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": [None, *self.values]}


Null = Annotated[Any, Neutral(())]
Zero = Annotated[Any, Neutral((0,))]
Off = Annotated[Any, Neutral((False,))]
Empty = Annotated[Any, Neutral(({},))]
NoList = Annotated[Any, Neutral(([],))]
NoChoice = Annotated[Any, Neutral(("none", "auto"))]


class Countersign(Request):
    """How to mark, and the sampling settings that OpenAI's API has no names for. See POST /generate for each."""

    issuer: IssuerName | None = None
    payload: Payload | None = None
    strength: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(64, ge=1, le=MAX_TOP_K)
    min_new_tokens: int = Field(0, ge=0)
    receipt: bool = True


class StreamOptions(Request):
    include_usage: bool | None = None
    include_obfuscation: Off = None


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "list"


Stops = Annotated[Annotated[Stop, Tag("text")] | Annotated[list[Stop], Field(max_length=MAX_STOPS), Tag("list")], Discriminator(_kind)]


class _Request(Request):
    """What both endpoints share."""

    model: Text = Field(description="The name of the model served; GET /v1/models tells it.")
    max_tokens: int | None = Field(None, ge=1, description=f"Tokens to write at most. Left out: {DEFAULT_MAX_TOKENS}.")
    temperature: float | None = Field(None, ge=0, le=2, description="Left out: 1. 0 leaves no room for a mark.")
    top_p: float | None = Field(None, gt=0, le=1, description="Left out: 1.")
    n: int | None = Field(None, ge=1, le=MAX_LIST, description="Texts for each prompt. Left out: 1.")
    stop: Stops | None = Field(None, description="The text ends before the first of these strings.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="With several texts, each one's seed is derived from this and its place.")
    stream: bool | None = Field(None, description="Server-sent events in OpenAI's form, ended by `[DONE]`.")
    stream_options: StreamOptions | None = None
    user: Text | None = Field(None, description="Accepted, and neither used nor kept.")
    countersign: Countersign = Field(
        default_factory=lambda: Countersign.model_validate({}), description="The `openai` client sends it by `extra_body`."
    )

    frequency_penalty: Zero = None
    presence_penalty: Zero = None
    logit_bias: Empty = None


def _no_tokens(prompt: Any) -> Any:
    if isinstance(prompt, list) and any(isinstance(item, (int, list)) for item in prompt):
        raise PydanticCustomError(
            "token_array", "Token arrays are not taken: how this service marks depends on its own tokens. Send the text"
        )
    return prompt


class CompletionRequest(_Request):
    prompt: Annotated[TextOrList, BeforeValidator(_no_tokens)] = Field(description="One prompt or a list of them, as text.")

    best_of: Annotated[Any, Neutral((1,))] = None
    echo: Off = None
    logprobs: Null = None
    suffix: Annotated[Any, Neutral(("",))] = None


class TextPart(Request):
    type: Literal["text"]
    text: Text


Content = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_LIST, fail_fast=True), Tag("list")],
    Discriminator(_kind),
]


class Message(Request):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content = Field(description="Text, or a list of text parts.")

    name: Null = None
    # An answer of this API may be sent back as it came.
    refusal: Null = None
    audio: Null = None
    function_call: Null = None
    tool_calls: NoList = None
    annotations: NoList = None


class ChatCompletionRequest(_Request):
    messages: list[Message] = Field(min_length=1, max_length=MAX_LIST, fail_fast=True)
    max_completion_tokens: int | None = Field(None, ge=1, description="As max_tokens, of which it is the newer name.")
    safety_identifier: Text | None = Field(None, description="Accepted, and neither used nor kept.")

    logprobs: Off = None
    top_logprobs: Zero = None
    response_format: Annotated[Any, Neutral(({"type": "text"},))] = None
    modalities: Annotated[Any, Neutral((["text"],))] = None
    audio: Null = None
    prediction: Null = None
    tools: NoList = None
    tool_choice: NoChoice = None
    parallel_tool_calls: Annotated[Any, Neutral((False, True))] = None
    functions: NoList = None
    function_call: NoChoice = None
    reasoning_effort: Annotated[Any, Neutral(("none",))] = None
    store: Off = None
    metadata: Empty = None
    service_tier: Annotated[Any, Neutral(("auto", "default"))] = None


def absent(value: Any) -> bool:
    """For fields that only some chunks of a stream have."""
    return value is None


class CountersignChoice(Answer):
    """What POST /generate says of a text."""

    id: str
    marking: Marking
    seed: int
    receipt_id: str | None


class CountersignAnswer(Answer):
    checkpoint: str
    timings: Timings


class CompletionUsage(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionChoice(Answer):
    index: int
    text: str
    finish_reason: str | None
    logprobs: None = None
    countersign: CountersignChoice | None = Field(
        default=None, exclude_if=absent, description="In a stream: in the last chunk of each choice."
    )


class Completion(Answer):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int = Field(description="Unix time in seconds.")
    model: str
    system_fingerprint: str = Field(description="The watermark checkpoint.")
    choices: list[CompletionChoice]
    usage: CompletionUsage | None = Field(default=None, exclude_if=absent, description="In a stream: in a chunk of its own, if asked for.")
    countersign: CountersignAnswer | None = Field(default=None, exclude_if=absent, description="In a stream: with the last text that ends.")


class ChatMessage(Answer):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Answer):
    index: int
    message: ChatMessage
    finish_reason: str
    logprobs: None = None
    countersign: CountersignChoice


class ChatCompletion(Answer):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Unix time in seconds.")
    model: str
    system_fingerprint: str = Field(description="The watermark checkpoint.")
    choices: list[ChatChoice]
    usage: CompletionUsage
    countersign: CountersignAnswer


class ChatDelta(Answer):
    role: Literal["assistant"] | None = Field(default=None, exclude_if=absent)
    content: str | None = Field(default=None, exclude_if=absent)


class ChatChunkChoice(Answer):
    index: int
    delta: ChatDelta
    finish_reason: str | None = None
    logprobs: None = None
    countersign: CountersignChoice | None = Field(default=None, exclude_if=absent, description="In the last chunk of each choice.")


class ChatCompletionChunk(Answer):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str = Field(description="The watermark checkpoint.")
    choices: list[ChatChunkChoice]
    usage: CompletionUsage | None = Field(default=None, exclude_if=absent, description="In a stream: in a chunk of its own, if asked for.")
    countersign: CountersignAnswer | None = Field(default=None, exclude_if=absent, description="With the last text that ends.")


class OpenAIModel(Answer):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time in seconds; of this answer, for a model does not say when it was made.")
    owned_by: str = "countersign"


class OpenAIModelList(Answer):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class OpenAIError(Answer):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorAnswer(Answer):
    """An error in OpenAI's form."""

    error: OpenAIError
