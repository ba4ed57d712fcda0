"""The frozen language model, seen through the few doors that marking and verifying need.

How its forward pass is computed is the business of `watermark.inference`: `TorchLM` is the model itself (the reference, training, GPUs),
`OpenVinoLM` the same model converted for CPUs.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from watermark.errors import BaseModelError
from watermark.inference.running import RunningModel


@dataclass(frozen=True)
class Tokens:
    """A text as the model reads it. `offsets[i]` are the characters of token i; special tokens in front have none."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    prefix: int
    """Special tokens in front of the text (a begin-of-text token, usually 0 or 1)."""


class TokenizedModel(ABC):
    """What a watermark pair has to know of its language model: its sizes, its tokenizer, and where it is.

    `name` is what a person calls the model (a registry name, a path or an id).
    """

    backend: str
    """How it is computed: `torch`, `openvino`, or an engine of somebody else's."""
    hidden_size: int
    layer_count: int
    vocab_size: int
    context_size: int
    model_type: str
    end_ids: tuple[int, ...]
    """Tokens that end a text."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.name = name
        self.tokenizer = tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise BaseModelError(f"The tokenizer of {name!r} has no fast (tokenizers) version; offsets need one.")

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where states and logits are."""

    def make_steerable(self) -> None:
        """Prepare for `watermark.inference.steering`, for pairs that act inside the model. Raises BaseModelError."""
        raise BaseModelError(
            f"The {self.backend} backend runs {self.name!r} as a fixed graph; this checkpoint acts inside the model. Use the torch backend."
        )

    def tokenize(self, text: str) -> Tokens:
        """Token ids with their characters. A special token spelled out in the text ("<eos>") is read as the characters it is made of:
        nobody who writes a text should be able to end it, or to pose as the model's own control tokens."""
        encoded = self.tokenizer(
            text, return_offsets_mapping=True, return_special_tokens_mask=True, split_special_tokens=True, verbose=False
        )
        mask = encoded["special_tokens_mask"]
        prefix = next((i for i, special in enumerate(mask) if not special), len(mask))
        stop = len(mask) if prefix == len(mask) else max(i for i, special in enumerate(mask) if not special) + 1
        offsets = [(int(a), int(b)) for a, b in encoded["offset_mapping"][:stop]]
        return Tokens(list(encoded["input_ids"][:stop]), offsets, prefix)

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True)

    def tokenizer_digest(self) -> str:
        """SHA-256 over the vocabulary: two models with the same digest split text the same way."""
        return self._tokenizer_digest

    @functools.cached_property
    def _tokenizer_digest(self) -> str:
        vocabulary = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        return hashlib.sha256("\x00".join(f"{token}\x01{i}" for token, i in vocabulary).encode("utf-8", "surrogatepass")).hexdigest()


class FrozenLM(TokenizedModel):
    """A causal language model and its tokenizer, frozen.

    The model is never changed and nothing is ever stored on it between calls, so one instance serves any number of concurrent readers.
    """

    @abstractmethod
    def to(self, device: str) -> None:
        """Move to a device. Raises BaseModelError."""

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Around everything that computes with this model: sets up the threads of this process as the backend needs them."""
        yield

    @property
    def reads_beside(self) -> bool:
        """Whether a thread beside the one that reads gains time: where the cores are the model's while it reads, and idle after."""
        return False

    @abstractmethod
    def release(self) -> None:
        """Give back memory that comes back by itself when it is needed: while there is nothing to do, and after the first use."""

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Rows of the input embedding table: token ids (…) → (…, hidden)."""

    @abstractmethod
    def read_states(self, sequences: Sequence[Sequence[int]], layers: tuple[int, ...]) -> Tensor:
        """Hidden states of token sequences at `layers`, one sequence after the other: float32 (tokens in all, len(layers), hidden).

        Layer 0 is the token embedding, layer l the state after l decoder layers. Each sequence is read by itself, from its first token.
        """

    @abstractmethod
    def compiled(self, network: nn.Module, example: Tensor) -> Callable[..., Any]:
        """A small network on one tensor (rows, …) of hidden states, called as itself, for many rows as fast as the backend can. Its outputs
        are tensors that begin with the same rows. `example` is such a tensor with two rows; weights are read at the first call."""

    @abstractmethod
    def running(self, layers: tuple[int, ...], network: nn.Module | None = None) -> RunningModel:
        """A batch of texts that go on token by token; with every token, what `network` makes of the hidden states (rows, layers, hidden)
        at `layers`. Its weights are read at the first call. Raises BaseModelError."""
