"""The files of a converted model: what stands in them, and under which names."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from watermark.errors import BaseModelError

FORMAT = 5
"""Raise it when the files change."""
SHAPE, BODY, EMBEDDING = "shape.json", "body.xml", "embedding.npy"
HEAD, ROWS, SCALES = "head.xml", "head_rows.npy", "head_scales.npy"
STAND_IN = "countersign_paged_attention_"
"""Prefix of the nodes that stand where attention belongs; the layer's number follows."""


class Attention(BaseModel):
    """Attention of one layer."""

    model_config = ConfigDict(frozen=True)

    layer: int
    scale: float
    window: int
    """Tokens that are visible, 0 for all."""
    heads: int
    """Of keys and values; queries may have more."""
    query_width: int
    """All heads together."""
    key_width: int
    """One head."""
    value_width: int


class Shape(BaseModel):
    """What the graphs do not say themselves."""

    model_config = ConfigDict(frozen=True)

    format: int
    model_type: str
    hidden_size: int
    layer_count: int
    vocab_size: int
    context_size: int
    end_ids: tuple[int, ...]
    rounded_head: bool
    """Whether the head is in 4 bits, with its weights in 8 bits beside it."""
    attentions: tuple[Attention, ...]


def read_shape(folder: Path) -> Shape:
    """Raises BaseModelError for a folder that this release cannot use."""
    try:
        shape = Shape.model_validate_json((folder / SHAPE).read_bytes())
    except (OSError, ValidationError) as error:
        raise BaseModelError(f"{folder} holds no converted model: {str(error).splitlines()[0]}.") from None
    if shape.format != FORMAT:
        raise BaseModelError(f"{folder} has format {shape.format}; this release reads {FORMAT}. Remove it, and it is made anew.")
    return shape
