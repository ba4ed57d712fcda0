"""Changing what a frozen layer hands on, for the length of one call.

Hooks are put on the decoder layers once and do nothing by themselves: they ask a context variable whether the call that they are in is
steered. A context variable belongs to its thread, so two calls at once never see each other's message, and when the call is over nothing
is left of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


class Intervention(Protocol):
    """What happens at the places of a call that is steered; it carries the message of every row."""

    def after_layer(self, layer: int, states: Tensor) -> Tensor:
        """States (B, T, hidden) that decoder layer `layer` (from 1) hands on → those that the next one gets."""
        ...

    def after_attention(self, layer: int, inputs: Tensor, outputs: Tensor) -> Tensor:
        """What self-attention in `layer` got and what it adds to the stream, (B, T, hidden) each → what takes its place."""
        ...


_CURRENT: ContextVar[Intervention | None] = ContextVar("steering", default=None)
_RESUMED: ContextVar[Tensor | None] = ContextVar("resumed", default=None)
_ATTENDED: ContextVar[Tensor | None] = ContextVar("attended", default=None)
"""What self-attention got, from there to the end of its branch."""


@contextlib.contextmanager
def steered(intervention: Intervention | None) -> Iterator[None]:
    """Forward passes of this thread in the block are steered."""
    token = _CURRENT.set(intervention)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def is_steered() -> bool:
    """Whether forward passes of this thread are steered now."""
    return _CURRENT.get() is not None


@contextlib.contextmanager
def resumed(states: Tensor) -> Iterator[None]:
    """The first layer of an upper part (`TorchLM.upper`) gets `states` in place of what the embedding made of the tokens."""
    token = _RESUMED.set(states)
    try:
        yield
    finally:
        _RESUMED.reset(token)


@dataclass(frozen=True)
class LayerHooks:
    """The hooks of decoder layer `layer` (from 1)."""

    layer: int

    def install(self, module: nn.Module, attention: nn.Module | None, end: nn.Module | None) -> None:
        """`end`: the module whose output is added to the stream, attention itself or a norm behind it."""
        module.register_forward_pre_hook(self._before, with_kwargs=True)
        module.register_forward_hook(self._after)
        if attention is not None and end is not None:
            attention.register_forward_pre_hook(self._before_attention, with_kwargs=True)
            end.register_forward_hook(self._after_attention)

    def _before(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        states = _RESUMED.get()
        if states is None:
            return None
        _RESUMED.set(None)  # only the first layer that runs
        intervention = _CURRENT.get()
        if intervention is not None:
            states = intervention.after_layer(self.layer - 1, states)
        return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})

    def _after(self, module: nn.Module, args: tuple, output: Any) -> Any:
        intervention = _CURRENT.get()
        if intervention is None:
            return None
        return _with_first(output, intervention.after_layer(self.layer, _first(output)))

    def _before_attention(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if _CURRENT.get() is not None:
            _ATTENDED.set(args[0] if args else kwargs["hidden_states"])

    def _after_attention(self, module: nn.Module, args: tuple, output: Any) -> Any:
        intervention, inputs = _CURRENT.get(), _ATTENDED.get()
        if intervention is None or inputs is None:
            return None
        _ATTENDED.set(None)  # nothing is left of a call
        return _with_first(output, intervention.after_attention(self.layer, inputs, _first(output)))


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _with_first(output: Any, states: Tensor) -> Any:
    """The same kind of output: some architectures' layers hand on a tuple that begins with the states."""
    return (states, *output[1:]) if isinstance(output, tuple) else states
