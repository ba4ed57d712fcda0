"""The decoding loop: a running batch that rows join and leave between two tokens, each row with its own conditioning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from watermark.base_model import FrozenLM
from watermark.embedding.conditioning import Conditioning
from watermark.embedding.embedder import Embedder
from watermark.embedding.repeats import ContextMemory
from watermark.inference.running import Coming
from watermark.inference.steering import Intervention, steered
from watermark.residual.embedder import ResidualEmbedder
from watermark.sampling.candidates import NO_TOKEN, BatchSettings, candidates_of, draw
from watermark.sampling.requests import SamplingSettings

StepHook = Callable[[int, int], None]
"""Called with (steps done, steps at most) after every token; may raise `Cancelled` to stop."""

AnyEmbedder = Embedder | ResidualEmbedder

CAPACITY = 256
"""Steps that a new context memory has room for; it grows."""
SLACK = 32
"""Prompts whose lengths differ by less, or by less than a factor of two, are read together."""


@dataclass(eq=False)
class Row:
    """One text being written. `ids`, `marked` and `stopped` change while it runs."""

    prompt_ids: list[int]
    sampling: SamplingSettings
    uniforms: Tensor
    """(max_new_tokens,) float64 in [0, 1), drawn from the request's seed before decoding starts."""
    signs: Tensor | None = None
    """Codeword (n,) of ±1, or None for text without a mark."""
    strength: float = 1.0
    ids: list[int] = field(default_factory=list)
    """New tokens; the end-of-text token is not among them."""
    marked: int = 0
    """Tokens drawn from a reweighted distribution."""
    stopped: bool = False
    """True if the model ended the text."""

    @property
    def done(self) -> bool:
        return self.stopped or len(self.ids) >= self.sampling.max_new_tokens


class RunningBatch:
    """Rows that are written together. What a row gets does not depend on its neighbours.

    `admit` rows at any time, `step` writes one token of each and returns the rows that it wrote, `remove` takes one out; rows that are
    `done` leave by themselves. Without an embedder, or where no row is marked, the very same loop runs without it.
    """

    def __init__(self, lm: FrozenLM, embedder: AnyEmbedder | None, layers: tuple[int, ...]) -> None:
        self.lm, self.embedder = lm, embedder
        self.rows: list[Row] = []
        self._model = lm.running(layers, embedder.contexts if isinstance(embedder, Embedder) else None)
        self._coming: list[_Prefill] = []
        self._memory: ContextMemory | None = None
        self._static: _Static | None = None

    def __len__(self) -> int:
        return len(self.rows) + sum(len(prefill.rows) for prefill in self._coming)

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row], *, hurry: bool = False) -> None:
        """They join as soon as their prompts have been read: a piece at every step, or with `hurry` at once. Raises BaseModelError."""
        with self.lm.computing():
            self._admit(rows, hurry)

    def _admit(self, rows: Sequence[Row], hurry: bool) -> None:
        coming = [_Prefill(group, self._model.begin([row.prompt_ids for row in group])) for group in alike(rows)]
        if hurry:
            for prefill in coming:
                while not self._read(prefill, hurry=True):
                    pass
                self._join(prefill)
        else:
            self._coming += coming

    @torch.inference_mode()
    def remove(self, row: Row) -> None:
        """Take a row out, wherever it is. Unknown ones are ignored."""
        if row in self.rows:
            self._drop(self.rows.index(row))
        for prefill in self._coming:
            prefill.remove(row)
        self._coming = [prefill for prefill in self._coming if prefill.rows]

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Read a piece of a waiting prompt, then write one token of every row. Returns the rows written, done ones included."""
        with self.lm.computing():
            return self._step()

    def _step(self) -> list[Row]:
        if self._coming and self._read(self._coming[0], hurry=not self.rows):
            self._join(self._coming.pop(0))
        if not self.rows:
            return []
        written = list(self.rows)
        self._write()
        for place in reversed(range(len(self.rows))):
            if self.rows[place].done:
                self._drop(place)
        return written

    def _write(self) -> None:
        static = self._static = self._static or _Static.stack(self.rows, self.lm, self.embedder)
        with steered(static.intervention):
            logits, attention = self._model.step(static.inputs)
        static.barred[static.steps >= static.at_least] = NO_TOKEN
        ids, probs = candidates_of(*self._model.likeliest(logits, static.width), static.settings, static.barred)
        marked = None
        if static.intervention and static.conditioning:  # the logits are marked already
            marked = (static.conditioning.strength > 0).cpu() & (probs.amax(dim=-1) < 1.0)
        elif isinstance(self.embedder, Embedder) and attention is not None and static.conditioning:
            if self._memory is None:
                self._memory = ContextMemory(len(self.rows), CAPACITY, static.conditioning.signs.shape[1])
            probs, marked = self.embedder(attention, ids, probs, static.conditioning, self._memory)
        uniforms = torch.from_numpy(static.uniforms[static.places, static.steps])
        token = ids.numpy()[static.places, draw(probs, uniforms).numpy()]
        if self._memory:
            self._memory.record(token)
        static.inputs = torch.from_numpy(token).to(self.lm.device)
        static.steps += 1
        marks = [False] * len(self.rows) if marked is None else marked.tolist()
        for row, new, mark in zip(self.rows, token.tolist(), marks, strict=True):
            row.stopped = new in self.lm.end_ids
            if not row.stopped:
                row.ids.append(new)
                row.marked += mark

    def _read(self, prefill: _Prefill, hurry: bool) -> bool:
        with steered(_intervention(self.embedder, _conditioning(prefill.rows, self.lm.device))):
            return prefill.coming.advance(hurry=hurry)

    def _join(self, prefill: _Prefill) -> None:
        self._model.join(prefill.coming)
        if self._memory:
            self._memory.append(len(prefill.rows))
        self.rows += prefill.rows
        self._static = None

    def _drop(self, place: int) -> None:
        self._model.remove(place)
        last = self.rows.pop()
        if place < len(self.rows):
            self.rows[place] = last
        if self._memory and self.rows:
            self._memory.remove(place)
        elif self._memory:
            self._memory = None
        self._static = None


@dataclass
class _Prefill:
    """Rows that are about to join."""

    rows: list[Row]
    coming: Coming

    def remove(self, row: Row) -> None:
        if row in self.rows:
            place = self.rows.index(row)
            self.coming.remove(place)
            last = self.rows.pop()
            if place < len(self.rows):
                self.rows[place] = last


@dataclass
class _Static:
    """The rows' settings as arrays, made anew when rows come or go; `inputs` and `steps` go on from token to token."""

    settings: BatchSettings
    conditioning: Conditioning | None
    intervention: Intervention | None
    """What marks the model's own forward pass, for the kinds that act there."""
    uniforms: np.ndarray
    """(B, longest) float64."""
    at_least: np.ndarray
    barred: np.ndarray
    """(B, any number): the tokens that end a text, as long as they must not be drawn."""
    width: int
    """Largest logits that are looked for: some may be barred."""
    places: np.ndarray
    """0 … B - 1."""
    steps: np.ndarray
    """(B,): tokens written so far, the end-of-text token not counted."""
    inputs: Tensor
    """(B,): the latest token of each row, where the model is."""

    @classmethod
    def stack(cls, rows: Sequence[Row], lm: FrozenLM, embedder: AnyEmbedder | None) -> _Static:
        uniforms = np.zeros((len(rows), max(len(row.uniforms) for row in rows)))
        for i, row in enumerate(rows):
            uniforms[i, : len(row.uniforms)] = row.uniforms.numpy()
        conditioning = _conditioning(rows, lm.device)
        settings = BatchSettings.stack([row.sampling for row in rows], lm.vocab_size)
        return cls(
            settings,
            conditioning,
            _intervention(embedder, conditioning),
            uniforms,
            np.array([row.sampling.min_new_tokens for row in rows]),
            np.tile(np.array(lm.end_ids, np.int64), (len(rows), 1)),
            min(settings.width + len(lm.end_ids), lm.vocab_size),
            np.arange(len(rows)),
            np.array([len(row.ids) for row in rows]),
            torch.tensor([row.ids[-1] if row.ids else row.prompt_ids[-1] for row in rows], device=lm.device),
        )


def _conditioning(rows: Sequence[Row], device: torch.device) -> Conditioning | None:
    """None where no row is marked."""
    lengths = {len(row.signs) for row in rows if row.signs is not None and row.strength > 0}
    if not lengths:
        return None
    (n,) = lengths
    signs = torch.stack([torch.ones(n) if row.signs is None else row.signs.float().cpu() for row in rows])
    strength = torch.tensor([0.0 if row.signs is None else row.strength for row in rows])
    return Conditioning(signs.to(device), strength.to(device))


def _intervention(embedder: AnyEmbedder | None, conditioning: Conditioning | None) -> Intervention | None:
    return embedder.intervention(conditioning) if isinstance(embedder, ResidualEmbedder) and conditioning else None


def alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in groups of similar prompt length, so that little is padded; the order of those in one group is kept."""
    groups: list[list[Row]] = []
    shortest = 0
    for row in sorted(rows, key=lambda row: len(row.prompt_ids)):
        length = len(row.prompt_ids)
        if not groups or length > 2 * shortest + SLACK:
            groups.append([])
            shortest = length
        groups[-1].append(row)
    places = {id(row): place for place, row in enumerate(rows)}
    return [sorted(group, key=lambda row: places[id(row)]) for group in groups]


def decode(
    lm: FrozenLM, embedder: AnyEmbedder | None, rows: Sequence[Row], layers: tuple[int, ...], on_step: StepHook | None = None
) -> Sequence[Row]:
    """Write all rows to their end, as one batch; the same rows again, for convenience."""
    batch = RunningBatch(lm, embedder, layers)
    batch.admit(rows, hurry=True)
    steps, most = 0, max((row.sampling.max_new_tokens for row in rows), default=0)
    while len(batch):
        batch.step()
        steps += 1
        if on_step:
            on_step(steps, most)
    return rows
