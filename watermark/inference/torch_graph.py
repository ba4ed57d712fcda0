"""The step of a running batch as one CUDA graph: a GPU then waits for none of the thousand small calls that a step is made of.

A graph repeats what was recorded, on the same memory. So the step is written here once more without anything that differs from token to
token outside of tensors: all rows and columns that the cache has room for take part, and masks say which of them count. It is recorded
anew when the cache's buffers move, which they do when a batch outgrows them.
"""

from __future__ import annotations

import threading
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
                nothing = torch.zeros(masks[kind].shape, dtype=self._lm.token_embeddings.dtype, device=ids.device)
                masks[kind] = nothing.masked_fill(~masks[kind], torch.finfo(nothing.dtype).min)
        mask = masks if len(masks) > 1 else next(iter(masks.values()))
        return self._lm.next_token(ids, mask, positions, view, self._layers, self._network)


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


CHECKED = 2
"""Steps of every recording that are compared with the plain step: the one in which it was made, and one that differs from it in all that
must not be frozen."""


class RecordedSteps:
    """The steps of one running batch. A model that cannot be written so, or whose steps cannot be recorded, is stepped through plainly from
    then on (`TorchLM.recordable`), with a warning."""

    def __init__(self, lm: TorchLM, layers: tuple[int, ...], network: nn.Module | None, record: Callable[[Step], Step]) -> None:
        self._lm, self._layers, self._network, self._record = lm, layers, network, record
        self._buffers: Any = None
        self._step: StaticStep | None = None
        self._replay: Step | None = None
        self._unchecked = CHECKED

    def step(self, tokens: Tensor, cache: RunningCache, plain: Step) -> Output:
        """The next token (B,) of every row of `cache` → what `plain`, which does the same, would return. Neither counts it."""
        if not self._lm.recordable or not cache.rows_held:
            return plain()
        try:
            step, replay = self._ready(tokens, cache)
            wanted = plain() if self._unchecked else None
            got = self._recorded(step, replay, tokens, cache)
            if wanted:
                divergence = _divergence(wanted[0], got[0])
                if not divergence < TRUST:
                    raise RuntimeError(f"its predictions are {divergence:.2f} nats away from the plain step's")
                self._unchecked -= 1
            return got
        except Exception as error:
            self._lm.recordable, self._step, self._replay = False, None, None
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(f"{self._lm.name!r} cannot be stepped through as a CUDA graph, so it is slower: {reason}", stacklevel=2)
            return plain()

    def _ready(self, tokens: Tensor, cache: RunningCache) -> tuple[StaticStep, Step]:
        buffers = (cache, *cache.reserve(1))
        if buffers != self._buffers or self._step is None or self._replay is None:
            self._step = self._replay = None  # its memory first
            self._step, self._unchecked = StaticStep(self._lm, self._layers, self._network, cache), CHECKED
            self._fill(self._step, tokens, cache)
            self._replay, self._buffers = self._record(self._step), buffers
        return self._step, self._replay

    def _recorded(self, step: StaticStep, replay: Step, tokens: Tensor, cache: RunningCache) -> Output:
        self._fill(step, tokens, cache)
        logits, made = replay()
        rows = len(tokens)
        return logits[:rows], None if made is None else made[:rows]

    def _fill(self, step: StaticStep, tokens: Tensor, cache: RunningCache) -> None:
        end, spare = cache.end, cache.rows_held - len(cache.lengths)
        # A spare row sees the column that it writes and no other: it computes something finite, which nobody reads.
        table = [cache.lengths + [0] * spare, [end - length for length in cache.lengths] + [end] * spare, [end] * cache.rows_held]
        step.table[1:].copy_(torch.tensor(table), non_blocking=True)
        step.table[0, : len(tokens)] = tokens


def cuda_graph(device: torch.device) -> Callable[[Step], Step]:
    """Records steps on `device`, which must do nothing but launch kernels there; what one returns is overwritten by its next replay."""

    def record(step: Step) -> Step:
        # The process's current device and stream are the caller's: they come back whatever happens, and one recording is made at a time.
        with _RECORDING, torch.cuda.device(device):
            before, stream = torch.cuda.current_stream(), torch.cuda.Stream()
            try:
                stream.wait_stream(before)
                with torch.cuda.stream(stream):
                    for _ in range(2):  # what libraries make at their first calls is not to be recorded
                        step()
                before.wait_stream(stream)
                graph = torch.cuda.CUDAGraph()
                with warnings.catch_warnings():
                    warnings.filterwarnings("error", message="(?i).*graph is empty")
                    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                        output = step()
            finally:
                torch.cuda.set_stream(before)

        def replay() -> Output:
            with torch.cuda.device(device):
                graph.replay()
            return output

        return replay

    return record


_RECORDING = threading.Lock()


def _divergence(wanted: Tensor, got: Tensor) -> float:
    wanted, got = torch.log_softmax(wanted, dim=-1), torch.log_softmax(got, dim=-1)
    return float((wanted.exp() * (wanted - got)).sum(dim=-1).mean())
