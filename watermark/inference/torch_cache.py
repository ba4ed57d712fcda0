"""Keys and values of a batch that rows may join and leave while it runs.

Rows stand right-aligned: the latest token of every row is in the same column, and a row of L tokens fills the last L columns. So
one column number serves all rows and all layers, whatever their lengths; joining and leaving move no row but the one concerned.
Columns are counted from the batch's own beginning; buffers hold those that can still be seen.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, get_layer_types_and_kwargs

from watermark.errors import BaseModelError

LAYER_TYPES = ("full_attention", "sliding_attention")
REBASE = 4096
"""Columns before the first one in use after which counting starts anew, so that masks stay short in a batch that never ends."""


class _Columns:
    """What all layers share: how many rows, and which columns are in use."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.end = 0

    @property
    def start(self) -> int:
        """First column that any row uses."""
        return self.end - max(self.lengths, default=0)


class RunningLayer(CacheLayerMixin):
    """Keys and values (rows, heads, columns, width) of one layer; `window` tokens are visible, or all."""

    def __init__(self, columns: _Columns, window: int | None) -> None:
        super().__init__()
        self.columns, self.window = columns, window
        self.is_sliding = window is not None
        self.base = 0
        """Column of the buffers' first place."""

    @property
    def width(self) -> int:
        """Columns that the buffers have room for."""
        return 0 if self.keys is None else self.keys.shape[2]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        queries, rows, end = key_states.shape[-2], len(key_states), self.columns.end
        self.reserve(rows, self.first_visible(), end + queries, key_states, value_states)
        assert self.keys is not None and self.values is not None
        at, low = end - self.base, self.first_visible() - self.base
        self.keys[:rows, :, at : at + queries] = key_states
        self.values[:rows, :, at : at + queries] = value_states
        return self.keys[:rows, :, low : at + queries], self.values[:rows, :, low : at + queries]

    def first_visible(self) -> int:
        start = self.columns.start
        return start if self.window is None else max(start, self.columns.end - self.window + 1)

    def reserve(self, rows: int, low: int, high: int, like_keys: Tensor, like_values: Tensor) -> None:
        """Make the buffers hold columns low … high of so many rows, keeping what they hold of them."""
        if self.keys is None or self.values is None:
            self.keys = like_keys.new_zeros(rows, like_keys.shape[1], _roomy(high - low), like_keys.shape[3])
            self.values = like_values.new_zeros(rows, like_values.shape[1], _roomy(high - low), like_values.shape[3])
            self.base, self.is_initialized = low, True
            return
        held_rows, held = self.keys.shape[0], self.keys.shape[2]
        if rows <= held_rows and low >= self.base and high <= self.base + held:
            return
        first, last = max(low, self.base), min(high, self.base + held)
        self.keys, self.values = (
            _moved(old, _rows(rows, held_rows), _roomy(high - low), first - self.base, first - low, max(0, last - first))
            for old in (self.keys, self.values)
        )
        self.base = low

    def take(self, row: int, source: RunningLayer, source_row: int, length: int) -> None:
        """Copy the last `length` tokens of another cache's row, as far as that one still holds them."""
        if source.keys is None or source.values is None:
            return
        low = max(source.columns.end - length, source.first_visible())
        count = source.columns.end - low
        self.reserve(row + 1, min(self.columns.end - count, self.first_visible()), self.columns.end, source.keys, source.values)
        assert self.keys is not None and self.values is not None
        to, at = self.columns.end - count - self.base, low - source.base
        self.keys[row, :, to : to + count] = source.keys[source_row, :, at : at + count]
        self.values[row, :, to : to + count] = source.values[source_row, :, at : at + count]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        low = self.first_visible()
        return self.columns.end + query_length - low, low

    def get_seq_length(self) -> int:
        return self.columns.end

    def get_max_length(self) -> int:
        return -1


class RunningCache(Cache):
    """The cache of a running batch; the model writes into it during `forward`, `advance` makes what it wrote count."""

    layers: list[RunningLayer]

    def __init__(self, config: Any, name: str) -> None:
        """`config` of the model called `name`. Raises BaseModelError for a model with layers other than attention."""
        types, options = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
        if unknown := sorted(set(types) - set(LAYER_TYPES)):
            raise BaseModelError(f"{name!r} has layers that cannot generate in a running batch: {', '.join(unknown)}.")
        self.columns, self._types = _Columns(), types
        super().__init__(layers=[RunningLayer(self.columns, each.get("sliding_window")) for each in options])

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row so far."""
        return self.columns.lengths

    @property
    def end(self) -> int:
        """The column that comes next."""
        return self.columns.end

    @property
    def rows_held(self) -> int:
        """Rows that the buffers have room for; 0 as long as nothing was read."""
        return min(0 if layer.keys is None else len(layer.keys) for layer in self.layers)

    def kinds(self) -> dict[str, RunningLayer]:
        """A layer of each type; those of one type have the same columns."""
        return dict(zip(self._types, self.layers, strict=True))

    def reserve(self, columns: int) -> tuple[Hashable, ...]:
        """Make room for so many more. Returns where the buffers are, which changes when they move."""
        where = []
        for layer in self.layers:
            assert layer.keys is not None and layer.values is not None
            layer.reserve(len(self.lengths), layer.first_visible(), self.end + columns, layer.keys, layer.values)
            where.append((layer.base, layer.keys.shape, layer.keys.data_ptr(), layer.values.data_ptr()))
        return tuple(where)

    def mask(self, tokens: list[int], device: torch.device) -> Tensor:
        """Attention mask (rows, columns + new ones) while `tokens[i]` tokens of row i are added: False before each row's first one."""
        end = self.columns.end + max(tokens)
        first = torch.tensor([end - length - more for length, more in zip(self.lengths, tokens, strict=True)], device=device)
        return torch.arange(end, device=device) >= first.unsqueeze(1)

    def advance(self, tokens: list[int]) -> None:
        """The columns just written count: `tokens[i]` of them, the last ones, are row i's (the others are padding)."""
        self.columns.end += max(tokens)
        self.columns.lengths = [length + more for length, more in zip(self.lengths, tokens, strict=True)]
        if self.columns.start > REBASE:
            self._shift(-self.columns.start)

    def open(self, rows: int) -> None:
        """Begin with so many empty rows."""
        assert not self.lengths
        self.columns.lengths = [0] * rows

    def take(self, other: RunningCache, row: int) -> None:
        """Append a row of another cache."""
        length = other.lengths[row]
        if length > self.columns.end:
            self._shift(length - self.columns.end)
        place = len(self.lengths)
        self.columns.lengths = [*self.lengths, length]
        for layer, source in zip(self.layers, other.layers, strict=True):
            layer.take(place, source, row, length)

    def remove(self, row: int) -> None:
        """The last row takes its place."""
        last = len(self.lengths) - 1
        if row < last:
            for layer in self.layers:
                if layer.keys is not None and layer.values is not None:
                    layer.keys[row], layer.values[row] = layer.keys[last].clone(), layer.values[last].clone()
            self.lengths[row] = self.lengths[last]
        self.columns.lengths = self.lengths[:last]
        if not last:
            for layer in self.layers:  # memory of a busy time is not kept for ever
                layer.keys = layer.values = None

    def _shift(self, columns: int) -> None:
        self.columns.end += columns
        for layer in self.layers:
            layer.base += columns


def _roomy(columns: int) -> int:
    return max(64, columns + columns // 2)


def _rows(wanted: int, held: int) -> int:
    """Twice as many at a time: rows join one by one."""
    return held if wanted <= held else max(wanted, 2 * held)


def _moved(old: Tensor, rows: int, columns: int, source: int, target: int, count: int) -> Tensor:
    """A buffer of zeros (never garbage: a masked key still meets its value, and 0 · NaN is NaN) with `count` columns of `old`."""
    new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
    new[: len(old), :, target : target + count] = old[:, :, source : source + count]
    return new
