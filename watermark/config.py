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


class WatermarkConfig(BaseModel):
    """Architecture of an embedder/extractor pair. `n = rounds * slots` is the length of a codeword in signs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = FORMAT_VERSION
    kind: Literal["tournament"] = "tournament"
    rounds: int = Field(default=32, ge=1, le=64, description="Reweighting rounds per token; each has its own block of slots.")
    slots: int = Field(default=32, ge=1, le=256, description="Message slots per round; each carries one sign of the codeword.")
    query_layers: tuple[int, ...] = Field(default=(0, 2, 6), description="Hidden states that the queries read; 0 is the token embedding.")
    hidden_size: int = Field(description="Width of the base model's hidden states.")
    query_width: int = Field(default=512, ge=1, description="Width of the query network.")
    key_size: int = Field(default=32, ge=1, description="Width of one query and one slot key.")
    reader_width: int = Field(default=256, ge=1, description="Width of the extractor's own network (centring and reliability).")
    code_salt: str = Field(default="countersign-1", description="Seeds the public token codes.")
    nonce_bits: int = Field(default=4, ge=0, le=8, description="Random bits per generation; the verifier tries them all.")
    repeat_threshold: float = Field(
        default=0.98, gt=0, le=1, description="Contexts with a cosine above this to an earlier one are not marked again."
    )
    token_threshold: float = Field(
        default=0.2, gt=0, le=1, description="A token drawn in a context with a cosine above this to the present one keeps its probability."
    )
    base_model: BaseModelIdentity | None = None

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

    @classmethod
    def from_json(cls, text: str, where: str) -> WatermarkConfig:
        """Read a checkpoint's `config.json`. Unknown keys warn; missing or bad ones raise `CheckpointError`."""
        try:
            config = cls.model_validate_json(text)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
            raise CheckpointError(f"{where} is not a valid checkpoint configuration: {problems}.") from None
        if config.format_version != FORMAT_VERSION:
            raise CheckpointError(f"{where} has format version {config.format_version}; this release reads {FORMAT_VERSION}.")
        unknown = sorted(set(json.loads(text)) - set(cls.model_fields))
        if unknown:
            warnings.warn(f"{where}: unknown keys ignored: {', '.join(unknown)}", stacklevel=2)
        return config
