"""The typed configuration of a watermark pair: everything that, with the weights, defines how marks are written and read."""

from __future__ import annotations

import json
import warnings
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from watermark.errors import CheckpointError

FORMAT_VERSION = 2


class BaseModelIdentity(BaseModel):
    """What a checkpoint remembers of the language model it was trained for, so that a wrong one is refused."""

    model_config = ConfigDict(frozen=True)

    name: str
    model_type: str
    hidden_size: int
    layer_count: int
    vocab_size: int
    tokenizer_sha256: str
    probe: list[float] = Field(description="Projected hidden states of a fixed token sequence; compared by cosine, so dtypes may differ.")


class PairConfig(BaseModel):
    """What all kinds of pairs have in common."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = FORMAT_VERSION
    hidden_size: int = Field(description="Width of the base model's hidden states.")
    nonce_bits: int = Field(default=4, ge=0, le=8, description="Random bits per generation; the verifier tries them all.")
    base_model: BaseModelIdentity | None = None


class WatermarkConfig(PairConfig):
    """A pair of kind `tournament`. `n = rounds * slots` is the length of a codeword in signs."""

    kind: Literal["tournament"] = "tournament"
    rounds: int = Field(default=32, ge=1, le=64, description="Reweighting rounds per token; each has its own block of slots.")
    slots: int = Field(default=32, ge=1, le=256, description="Message slots per round; each carries one sign of the codeword.")
    query_layers: tuple[int, ...] = Field(default=(0, 1, 3), description="Hidden states that the queries read; 0 is the token embedding.")
    query_width: int = Field(default=512, ge=1, description="Width of the query network.")
    key_size: int = Field(default=32, ge=1, description="Width of one query and one slot key.")
    reader_width: int = Field(default=256, ge=1, description="Width of the extractor's own network (centring and reliability).")
    code_salt: str = Field(default="countersign-1", description="Seeds the public token codes.")
    repeat_threshold: float = Field(
        default=0.98, gt=0, le=1, description="Contexts with a cosine above this to an earlier one are not marked again."
    )
    token_threshold: float = Field(
        default=0.2, gt=0, le=1, description="A token drawn in a context with a cosine above this to the present one keeps its probability."
    )

    @property
    def n(self) -> int:
        """Signs in a codeword."""
        return self.rounds * self.slots

    @property
    def depth(self) -> int:
        """Decoder layers that the extractor has to run."""
        return max(self.query_layers)

    @model_validator(mode="after")
    def _consistent(self) -> WatermarkConfig:
        if list(self.query_layers) != sorted(set(self.query_layers)) or self.query_layers[0] < 0 or self.depth < 1:
            raise ValueError("query_layers must be increasing layer numbers, the last at least 1")
        if self.n % 8:
            raise ValueError("rounds * slots must be a multiple of 8")
        return self


class ResidualConfig(PairConfig):
    """A pair that acts inside the base model (`watermark.residual`), with an extractor that reads tokens alone."""

    kind: Literal["gated", "substituted"]
    signs: int = Field(default=128, ge=8, le=1024, multiple_of=8, description="Message slots: signs of a codeword.")
    layers: tuple[int, ...] = Field(
        default=(17, 18), min_length=1, description="gated: decoder layers (from 1) followed by a block. substituted: those replaced."
    )
    slot_width: int = Field(default=256, ge=1, description="Width of a slot's embedding and of its value.")
    heads: int = Field(default=4, ge=1, description="Heads of the cross-attention.")
    key_size: int = Field(default=32, ge=1, description="Width of a query in one head.")
    memory: int = Field(default=128, ge=1, description="substituted: slots from which the replaced attention is imitated.")
    gate: float = Field(default=1.3, description="Value before the tanh of every gate at the beginning; 0 is closed.")
    reader_width: int = Field(default=160, ge=1, description="Width of the extractor.")
    reader_layers: int = Field(default=3, ge=0, description="Layers of the extractor.")
    reader_heads: int = Field(default=4, ge=1, description="Heads of the extractor's self-attention.")
    nonce_bits: int = Field(default=0, ge=0, le=8, description="Random bits per generation; the verifier tries them all.")

    @property
    def n(self) -> int:
        """Signs in a codeword."""
        return self.signs

    @property
    def first(self) -> int:
        """Decoder layers that run as they always do; the state after them is the first that may be changed."""
        return self.layers[0] - (self.kind == "substituted")

    @property
    def query_layers(self) -> tuple[int, ...]:
        """Hidden states by which the base model is recognised."""
        return (max(1, self.first),)

    @model_validator(mode="after")
    def _consistent(self) -> ResidualConfig:
        if list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 1:
            raise ValueError("layers must be increasing layer numbers, the first at least 1")
        if self.slot_width % self.heads or self.reader_width % (2 * self.reader_heads):
            raise ValueError("slot_width must be a multiple of heads, and reader_width of twice reader_heads")
        return self


AnyConfig = WatermarkConfig | ResidualConfig
"""Which of them a file holds, its key `kind` says."""


def parse_config(text: str, where: str) -> AnyConfig:
    """Read a checkpoint's `config.json`. Unknown keys warn; missing or bad ones raise `CheckpointError`."""
    try:
        raw = json.loads(text)
        kind = ResidualConfig if isinstance(raw, dict) and raw.get("kind", "tournament") != "tournament" else WatermarkConfig
        config = kind.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise CheckpointError(f"{where} is not a valid checkpoint configuration: {problems}.") from None
    except ValueError as error:
        raise CheckpointError(f"{where} is not a valid checkpoint configuration: file: {error}.") from None
    if config.format_version != FORMAT_VERSION:
        raise CheckpointError(f"{where} has format version {config.format_version}; this release reads {FORMAT_VERSION}.")
    unknown = sorted(set(raw) - set(kind.model_fields))
    if unknown:
        warnings.warn(f"{where}: unknown keys ignored: {', '.join(unknown)}", stacklevel=2)
    return config
