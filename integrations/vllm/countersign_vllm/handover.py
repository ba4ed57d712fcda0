"""From the model to the logits processor, within one step: vLLM gives a processor nothing but logits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, cat

BASE = 128
"""Positions travel as digits, since a half-precision number cannot hold them."""
DIGITS = 3


@dataclass(frozen=True)
class Step:
    """Of each text that gets a token: what its state says, and where in the text it stands."""

    states: Tensor
    """(rows, layers, hidden)."""
    positions: Tensor
    """(rows,): of the token that the next one follows."""


_latest: Step | None = None


def give(step: Step) -> None:
    """Of the step that is being computed; an earlier one that nobody took is forgotten."""
    global _latest
    _latest = step


def take(rows: int) -> Step:
    """The step that was just computed, once. Raises RuntimeError where there is none of so many rows."""
    global _latest
    step, _latest = _latest, None
    if step is None or len(step.positions) != rows:
        found = "none" if step is None else f"{len(step.positions)}"
        raise RuntimeError(f"Countersign: {rows} texts get a token and the model gave the states of {found}. Marked text would be wrong.")
    return step


def pack(hidden: Tensor, streams: list[Tensor], positions: Tensor) -> Tensor:
    """One tensor (tokens, …) of the final states (tokens, hidden), those before them and the positions: vLLM picks its rows."""
    digits = [(positions // BASE**place % BASE).unsqueeze(-1).to(hidden.dtype) for place in range(DIGITS)]
    return cat([hidden, *streams, *digits], dim=-1)


def unpack(packed: Tensor, hidden_size: int) -> tuple[Tensor, Step]:
    """The final states (rows, hidden), and the rest."""
    hidden, states = packed[:, :hidden_size], packed[:, hidden_size:-DIGITS]
    digits = packed[:, -DIGITS:].round().long()
    positions = sum(digits[:, place] * BASE**place for place in range(DIGITS))
    return hidden, Step(states.unflatten(-1, (-1, hidden_size)), positions)  # pyright: ignore[reportArgumentType]
