"""A converted model: read and continued through OpenVINO."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

from watermark.base_model import FrozenLM
from watermark.errors import BaseModelError
from watermark.floats import single
from watermark.inference.openvino.files import EMBEDDING, read_shape
from watermark.inference.openvino.graph import compile_head, compile_network, compile_reading, compile_writing
from watermark.inference.openvino.head import Head
from watermark.inference.openvino.memory import release_files
from watermark.inference.openvino.running import OpenVinoRunning, Pages, Text
from watermark.inference.openvino.threads import ONE_BLAS_THREAD


class OpenVinoLM(FrozenLM):
    """The model in a folder that `convert` filled. Graphs are compiled when they are first needed, in the process that needs them (never
    before a fork: OpenVINO has threads of its own), for as many threads as torch has."""

    backend = "openvino"

    def __init__(self, folder: Path, tokenizer: Any, name: str) -> None:
        """Raises BaseModelError."""
        super().__init__(tokenizer, name)
        self._folder, self._shape = folder, read_shape(folder)
        self.hidden_size, self.layer_count = self._shape.hidden_size, self._shape.layer_count
        self.vocab_size, self.context_size = self._shape.vocab_size, self._shape.context_size
        self.model_type, self.end_ids = self._shape.model_type, self._shape.end_ids
        self._table = np.asarray(np.load(folder / EMBEDDING, mmap_mode="r"))  # without the file's own class, whose look-ups are slower
        self._lock = threading.Lock()
        self._compiled: dict[Any, Any] = {}
        self._of_thread = threading.local()
        self._threads = 1

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def reads_beside(self) -> bool:
        return self._threads > 1

    def to(self, device: str) -> None:
        if torch.device(device).type != "cpu":
            raise BaseModelError(f"The openvino backend runs on the CPU, not on {device!r}. Use the torch backend there.")

    def release(self) -> None:
        release_files(self._folder)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """OpenVINO gets the threads that torch has, and torch and BLAS one each: see `threads`."""
        threads = torch.get_num_threads()
        self._threads = max(self._threads, threads)
        torch.set_num_threads(1)
        try:
            with ONE_BLAS_THREAD:
                yield
        finally:
            torch.set_num_threads(threads)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Embeddings float32 (n, hidden) of token ids (n,), from the file."""
        return single(self._table[ids])

    def embed(self, ids: Tensor) -> Tensor:
        return torch.from_numpy(self.rows(ids.numpy()))

    def read_states(self, sequences: Sequence[Sequence[int]], layers: tuple[int, ...]) -> Tensor:
        outputs = [f"state_{layer}" for layer in layers]
        trunk = self._once(("trunk", layers), lambda core: Pages(compile_reading(core, self._folder, self._shape, outputs, self._threads)))
        texts = [Text() for _ in sequences]
        ids = np.array([i for sequence in sequences for i in sequence])
        with self._lock:
            try:
                read = trunk.read([(t, len(s)) for t, s in zip(texts, sequences, strict=True)], self.rows(ids), outputs)
                return torch.from_numpy(np.stack(read, axis=1))
            finally:
                for text in texts:
                    trunk.free(text)

    def compiled(self, network: nn.Module, example: Tensor) -> Callable[..., Any]:
        def run(states: Tensor) -> Tensor | tuple[Tensor, ...]:
            own = self._of_thread.__dict__.setdefault("requests", {})
            if network not in own:
                made = self._once(network, lambda core: compile_network(core, network, example, self._threads))
                own[network] = made.create_infer_request()
            own[network].infer([states.numpy()], share_inputs=True)
            found = [torch.from_numpy(tensor.data.copy()) for tensor in own[network].output_tensors]
            return tuple(found) if len(found) > 1 else found[0]

        return run

    def running(self, layers: tuple[int, ...], network: nn.Module | None = None) -> OpenVinoRunning:
        return OpenVinoRunning(self, layers, network)

    def body(self, layers: tuple[int, ...], network: nn.Module | None) -> Any:
        """The compiled graph up to what the head reads, with what `network` makes of the states at `layers`."""
        layers = layers if network else ()

        def make(core: ov.Core) -> Any:
            return compile_writing(core, self._folder, self._shape, layers, network, self._threads)

        return self._once(("body", layers, network), make)

    def head(self) -> Head:
        """The output head, for one caller at a time."""
        rounded = self._shape.rounded_head
        compiled = self._once("head", lambda core: compile_head(core, self._folder, rounded=rounded, threads=self._threads))
        return Head(compiled, self._folder, rounded=rounded)

    def _once(self, what: Any, make: Callable[[ov.Core], Any]) -> Any:
        with self._lock:
            if what not in self._compiled:
                self._threads = max(self._threads, torch.get_num_threads())
                self._compiled[what] = make(ov.Core())
            return self._compiled[what]
