"""What every request and answer shares: strictness, text that can be encoded, names and payloads."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from watermark.codebook.keys import NAME_PATTERN

MAX_LIST = 256
"""Longest list in any request; the operator may allow less."""
MAX_UNKNOWN = 20
"""Unknown fields that are named one by one; listing hundreds of thousands would hold up everybody for seconds."""
HEXADECIMAL = re.compile("[0-9a-fA-F]{1,16}")


class Request(BaseModel):
    """Unknown fields, numbers in quotes, NaN and Infinity are refused: a typo must not become a silent default."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + MAX_UNKNOWN:
            message = "This object has {sent} fields; there are {known} that it may have"
            raise PydanticCustomError("too_many_fields", message, {"sent": len(value), "known": len(cls.model_fields)})
        return value


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


class Timings(Answer):
    """Seconds of this request."""

    waited_seconds: float = Field(description="In the queue, until its first item was begun.")
    first_token_seconds: float | None = Field(None, description="From the request's arrival until its first token; generation only.")
    worked_seconds: float = Field(description="From then until its last item was done.")
