"""A running batch on paged attention: every text has its own blocks of keys and values, and nothing moves when texts come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

from watermark.inference.openvino.graph import BLOCK
from watermark.inference.running import CHUNK, CHUNK_BESIDE

if TYPE_CHECKING:
    from watermark.inference.openvino.lm import OpenVinoLM

NOBODYS = np.zeros(2, np.int64)
BLOCKS = 64
"""Blocks that a cache has room for at first; it doubles."""


@dataclass(eq=False)
class Text:
    """A text in the cache: the blocks it fills, in order, and how many tokens they hold."""

    blocks: list[int] = field(default_factory=list)
    length: int = 0


class Pages:
    """The blocks of every layer of a compiled body, and the request that reads and writes them."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._ports = [port for port in compiled.inputs if port.get_any_name().startswith(("keys_", "values_"))]
        self._inputs: dict[str, np.ndarray] = {}
        """What the request reads, apart from the caches."""
        self._caches: list[ov.Tensor] = []
        self._free: list[int] = []
        self._size = 0

    def read(
        self, pieces: Sequence[tuple[Text, int]], embeddings: np.ndarray, outputs: Sequence[str], **inputs: np.ndarray
    ) -> list[np.ndarray]:
        """Read `count` more tokens of each text, whose `embeddings` (tokens in all, hidden) follow one another. Returns views of `outputs`,
        good until the next call."""
        past = [text.length for text, _ in pieces]
        for text, count in pieces:
            self._extend(text, text.length + count)
        counts = [count for _, count in pieces]
        tables = {
            "embeddings": embeddings[None],
            "positions": np.concatenate([np.arange(p, p + c) for p, c in zip(past, counts, strict=True)])[None],
            "past": np.array(past, np.int32),
            "begins": np.cumsum([0, *counts], dtype=np.int32),
            "blocks": np.array([block for text, _ in pieces for block in text.blocks], np.int32),
            "block_begins": np.cumsum([0, *(len(text.blocks) for text, _ in pieces)], dtype=np.int32),
            "longest": np.array(max(text.length for text, _ in pieces), np.int32),
            **inputs,
        }
        for name, values in tables.items():
            self._give(name, values)
        self._request.infer()
        return [self._request.get_tensor(name).data for name in outputs]

    def _give(self, name: str, values: np.ndarray) -> None:
        """From one step to the next hardly any shape changes, and to write into what the request has is cheaper than to give it anew."""
        held = self._inputs.get(name)
        if held is None or held.shape != values.shape or held.dtype != values.dtype:
            tensor = ov.Tensor(values)
            self._request.set_tensor(name, tensor)
            held = self._inputs[name] = tensor.data
        else:
            held[...] = values

    def free(self, text: Text) -> None:
        """Its blocks are for others. When no text is left, memory of a busy time is not kept."""
        self._free += text.blocks
        text.blocks, text.length = [], 0
        if len(self._free) == self._size > BLOCKS:
            self._caches, self._free, self._size = [], [], 0

    def _extend(self, text: Text, length: int) -> None:
        wanted = -(-length // BLOCK) - len(text.blocks)
        while len(self._free) < wanted:
            self._grow()
        text.blocks += [self._free.pop() for _ in range(wanted)]
        text.length = length

    def _grow(self) -> None:
        """Double the room; what it holds stays where it is."""
        size = 2 * self._size or BLOCKS
        grown = []
        for i, port in enumerate(self._ports):
            _, *rest = (dimension.get_length() if dimension.is_static else -1 for dimension in port.get_partial_shape())
            cache = ov.Tensor(port.get_element_type(), ov.Shape([size, *rest]))
            if self._caches:
                self._caches[i].copy_to(ov.Tensor(cache, ov.Coordinate([0] * 4), ov.Coordinate([self._size, *rest])))
            self._request.set_tensor(port, cache)
            grown.append(cache)
        self._free += range(self._size, size)
        self._caches, self._size = grown, size


class OpenVinoRunning:
    """See `RunningModel`."""

    def __init__(self, lm: OpenVinoLM, layers: tuple[int, ...], network: nn.Module | None) -> None:
        self._lm, self._outputs = lm, ["final", *(["network"] if network else [])]
        self._pages = Pages(lm.body(layers, network))
        self._head = lm.head()
        self._texts: list[Text] = []
        self._companion = Text()
        """Two tokens beside every step. Where all texts have one new token, OpenVINO's attention shares a text's sum out among threads as
        they come, and its last bits differ from run to run; where one text has more, each text's sum is one thread's."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> OpenVinoComing:
        return OpenVinoComing(self._lm, self._pages, prompts)

    def join(self, coming: OpenVinoComing) -> None:
        self._texts += coming.texts

    def remove(self, place: int) -> None:
        self._pages.free(_take(self._texts, place))
        if not self._texts:
            self._pages.free(self._companion)

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        self._companion.length, rows = 0, len(self._texts)
        pieces = [*((text, 1) for text in self._texts), (self._companion, 2)]
        embeddings = self._lm.rows(np.concatenate([tokens.numpy(), NOBODYS]))
        final, *made = self._pages.read(pieces, embeddings, self._outputs, keep=np.arange(rows))
        return self._head(final[0]), torch.from_numpy(made[0]) if made else None

    def likeliest(self, logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
        return self._head.likeliest(logits, width)


class OpenVinoComing:
    """Prompts that are read one after the other, the tokens of several in one pass."""

    def __init__(self, lm: OpenVinoLM, pages: Pages, prompts: Sequence[Sequence[int]]) -> None:
        self._lm, self._pages = lm, pages
        self._prompts = [list(prompt[:-1]) for prompt in prompts]
        self.texts = [Text() for _ in prompts]

    def advance(self, hurry: bool) -> bool:
        room = CHUNK if hurry else CHUNK_BESIDE
        pieces: list[tuple[Text, int]] = []
        ids: list[int] = []
        for text, prompt in zip(self.texts, self._prompts, strict=True):
            new = prompt[text.length : text.length + room - len(ids)]
            if new:
                pieces.append((text, len(new)))
                ids += new
        if pieces:
            self._pages.read(pieces, self._lm.rows(np.array(ids)), [], keep=np.arange(1))
        return all(text.length == len(prompt) for text, prompt in zip(self.texts, self._prompts, strict=True))

    def remove(self, place: int) -> None:
        self._pages.free(_take(self.texts, place))
        _take(self._prompts, place)


def _take(items: list[Any], place: int) -> Any:
    """Remove the item at `place`; the last one moves there."""
    items[place], items[-1] = items[-1], items[place]
    return items.pop()
