"""The step of a running batch as one CUDA graph: a GPU then waits for none of the thousand small calls that a step is made of.

A graph repeats what was recorded, on the same memory. So the step is written here once more without anything that differs from token to
token outside of tensors: all rows and columns that the cache has room for take part, and masks say which of them count. It is recorded
anew when the cache's buffers move, which they do when a batch outgrows them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin

from watermark.inference.torch_cache import RunningCache, RunningLayer

if TYPE_CHECKING:
    from watermark.inference.torch_lm import TorchLM

Output = tuple[Tensor, Tensor | None]
"""Logits (rows, vocabulary) in float32, and what the network makes of the states."""
Step = Callable[[], Output]
TRUST = 0.05
"""Largest mean divergence (nats) between a recorded step and the plain one; in bfloat16 the order of sums alone makes some thousandths."""


class StaticStep:
    """One token for every row of a cache's buffers, the spare ones included, as the cache is now. Called, it reads `table` and writes the
    keys and values of that token."""

    def __init__(self, lm: TorchLM, layers: tuple[int, ...], network: nn.Module | None, cache: RunningCache) -> None:
        self._lm, self._layers, self._network, self._cache = lm, layers, network, cache
        self.table = torch.zeros(4, cache.rows_held, dtype=torch.long, device=lm.device)
        """(4, rows): each row's token, its position, the first column that it sees, and the column that is written."""

    def __call__(self) -> Output:
        ids, positions, first, column = self.table
        view = _View(self._cache.layers, column[:1])
        added = self._lm.model.config.get_text_config()._attn_implementation == "eager"  # a mask that is added to the scores
        masks = {}
        for kind, layer in self._cache.kinds().items():
            columns = torch.arange(layer.width, device=ids.device) + layer.base
            seen = (columns >= first[:, None]) & (columns <= column[:, None])
            if layer.window is not None:
                seen &= columns > column[:, None] - layer.window
            masks[kind] = seen[:, None, None]
            if added:
                dtype = self._lm.token_embeddings.dtype
                masks[kind] = torch.where(masks[kind], 0.0, torch.finfo(dtype).min).to(dtype)
        output = self._lm.model(
            input_ids=ids[:, None],
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            position_ids=positions[:, None],
            past_key_values=view,
            use_cache=True,
            output_hidden_states=list(self._layers) if self._network else False,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].float()
        if self._network is None:
            return logits, None
        return logits, self._network(torch.stack([output.hidden_states[layer][:, -1] for layer in self._layers], dim=1))


class _View(Cache):
    """A cache's buffers, whole, into which a step writes one column."""

    def __init__(self, layers: list[RunningLayer], column: Tensor) -> None:
        super().__init__(layers=[_LayerView(layer, column - layer.base) for layer in layers])


class _LayerView(CacheLayerMixin):
    def __init__(self, layer: RunningLayer, place: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self._place = layer.keys, layer.values, place
        self.is_initialized, self.is_sliding = True, layer.is_sliding

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise AssertionError("the buffers are there")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None
        self.keys.index_copy_(2, self._place, key_states)
        self.values.index_copy_(2, self._place, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        assert self.keys is not None
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class RecordedSteps:
    """The steps of one running batch. The first one is compared with the plain step: a model that cannot be written so, or a graph that
    cannot be recorded, is stepped through plainly, with a warning."""

    def __init__(self, lm: TorchLM, layers: tuple[int, ...], network: nn.Module | None, record: Callable[[Step], Step]) -> None:
        self._lm, self._layers, self._network, self._record = lm, layers, network, record
        self._buffers: Any = None
        self._step: StaticStep | None = None
        self._replay: Step | None = None
        self.trusted = self.given_up = False

    def step(self, tokens: Tensor, cache: RunningCache, plain: Step) -> Output:
        """The next token (B,) of every row of `cache` → what `plain`, which does the same, would return. Neither counts it."""
        if self.given_up or not cache.rows_held:
            return plain()
        wanted = None if self.trusted else plain()
        try:
            got = self._recorded(tokens, cache)
            if wanted:
                divergence = _divergence(wanted[0], got[0])
                if not divergence < TRUST:
                    raise RuntimeError(f"its predictions are {divergence:.2f} nats away from the plain step's")
                self.trusted = True
            return got
        except Exception as error:
            self.given_up, self._step, self._replay = True, None, None
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(f"{self._lm.name!r} cannot be stepped through as a CUDA graph, so it is slower: {reason}", stacklevel=2)
            return wanted or plain()

    def _recorded(self, tokens: Tensor, cache: RunningCache) -> Output:
        buffers = (cache, *cache.reserve(1))
        if buffers != self._buffers or self._step is None or self._replay is None:
            self._step = self._replay = None  # its memory first
            self._step = StaticStep(self._lm, self._layers, self._network, cache)
            self._fill(self._step, tokens, cache)
            self._replay, self._buffers = self._record(self._step), buffers
        self._fill(self._step, tokens, cache)
        logits, made = self._replay()
        rows = len(tokens)
        return logits[:rows], None if made is None else made[:rows]

    def _fill(self, step: StaticStep, tokens: Tensor, cache: RunningCache) -> None:
        end, spare = cache.end, cache.rows_held - len(cache.lengths)
        # A spare row sees the column that it writes and no other: it computes something finite, which nobody reads.
        table = [cache.lengths + [0] * spare, [end - length for length in cache.lengths] + [end] * spare, [end] * cache.rows_held]
        step.table[1:].copy_(torch.tensor(table), non_blocking=True)
        step.table[0, : len(tokens)] = tokens


def cuda_graph(step: Step) -> Step:
    """Record `step`, which must do nothing but launch kernels; what it returns is overwritten by the next replay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):  # what libraries make at their first calls is not to be recorded
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may go on
        output = step()

    def replay() -> Output:
        graph.replay()
        return output

    return replay


def _divergence(wanted: Tensor, got: Tensor) -> float:
    wanted, got = torch.log_softmax(wanted, dim=-1), torch.log_softmax(got, dim=-1)
    return float((wanted.exp() * (wanted - got)).sum(dim=-1).mean())
