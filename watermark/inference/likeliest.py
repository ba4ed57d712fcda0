"""The largest logits of a vocabulary."""

from __future__ import annotations

from torch import Tensor

CHUNK = 128
"""Logits of which only the largest is compared at first."""


def likeliest(logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """logits (B, vocabulary) → the `width` largest of each row, falling, and their ids. No value of a chunk whose largest is not among the
    `width` largest of all chunks' can be among them, so all but that many chunks are only looked at for their largest."""
    rows, vocabulary = logits.shape
    if vocabulary % CHUNK or vocabulary < 4 * CHUNK * width:
        return logits.topk(width, dim=-1)
    chunks = logits.view(rows, -1, CHUNK)
    chosen = chunks.amax(dim=-1).topk(width, dim=-1).indices  # (B, width)
    values, places = chunks.gather(1, chosen.unsqueeze(-1).expand(-1, -1, CHUNK)).flatten(1).topk(width, dim=-1)
    return values, chosen.gather(1, places // CHUNK) * CHUNK + places % CHUNK
