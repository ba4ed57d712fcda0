"""Reading texts: tokenise, run the extractor in windows, and return the evidence of each text, or what is made of it.

A window carries the tokens around it as context, so work and memory grow linearly with the text. What follows the model has one core, and
is done for one batch beside the reading of the next where that leaves none idle.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from watermark.base_model import FrozenLM, Tokens
from watermark.extraction.extractor import Evidence, Extractor
from watermark.normalise import normalise
from watermark.residual.extractor import TextExtractor, shares

AnyExtractor = Extractor | TextExtractor

WINDOW, CONTEXT = 768, 256
"""Tokens scored per window, and tokens before them that the trunk sees as well."""
TEXT_WINDOW, TEXT_CONTEXT = 128, 32
"""The same for an extractor that reads tokens alone; it sees as many after them, and as many in all as it was trained on."""
BATCH_TOKENS, BATCH_TOKENS_BESIDE = 2048, 1024
"""Tokens per forward pass, padding included; and where the next pass is what hides the work that follows one."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class _Window:
    text: int
    first: int
    """Index of the first scored token in the text's tokens (special prefix not counted)."""
    inputs: list[int]
    targets: list[int]
    """Tokens predicted by `inputs`, one each."""
    scored: slice
    """Those of them that count."""


def leading_token(lm: FrozenLM) -> list[int]:
    """What stands in front of a text whose beginning is unknown: the begin-of-text token, or else the end-of-text one."""
    tokens = lm.tokenize("a")
    return tokens.ids[: tokens.prefix] or list(lm.end_ids[:1])


def _windows(text: int, tokens: Tokens, lead: list[int], size: int, before: int, after: int) -> list[_Window]:
    ids = tokens.ids[tokens.prefix :]
    found = []
    # Without any token to stand in front, the first token has no context and cannot be scored.
    for first in range(0 if lead else 1, len(ids), size):
        last = min(first + size, len(ids))
        low = max(0, first - before)
        row = lead[-1:] + ids[low : last + after]
        at = first - low - (0 if lead else 1)
        found.append(_Window(text, first, row[:-1], row[1:], slice(at, at + last - first)))
    return found


@torch.inference_mode()
def read_evidence(
    lm: FrozenLM,
    extractor: AnyExtractor,
    texts: Sequence[str],
    layers: tuple[int, ...],
    made_of: Callable[[list[Evidence]], Sequence[Made]],
    on_batch: Callable[[], None] = lambda: None,
) -> list[Made]:
    """What `made_of` makes of the evidence of each text, in order; an empty text has none (T = 0). Texts are read without a prompt.

    Invisible characters and letters that pose as Latin ones are read past; offsets point into the texts as they were given. `made_of` gets
    the texts of a batch, in a thread of its own where the model `reads_beside`; `on_batch` is called in the caller's between batches.
    """
    lead = leading_token(lm)
    normalised = [normalise(text) for text in texts]
    tokenised = [lm.tokenize(text.text) for text in normalised]
    bodies = [text.original_spans(tokens.offsets[tokens.prefix :]) for text, tokens in zip(normalised, tokenised, strict=True)]
    evidence = [np.zeros((len(body), extractor.n), dtype=np.float16) for body in bodies]
    alone = isinstance(extractor, TextExtractor)
    sizes = (TEXT_WINDOW, TEXT_CONTEXT, TEXT_CONTEXT) if alone else (WINDOW, CONTEXT, 0)
    # Texts of about one length are read together: a backend may have to pad them to the longest.
    windows = sorted((w for i, tokens in enumerate(tokenised) for w in _windows(i, tokens, lead, *sizes)), key=lambda w: len(w.inputs))
    read = _token_reader(lm, extractor) if alone else _state_reader(lm, extractor, layers)
    unread = Counter(window.text for window in windows)
    made: dict[int, Made] = {}

    def finish(done: Sequence[int]) -> None:
        made.update(zip(done, made_of([Evidence(evidence[i], bodies[i]) for i in done]), strict=True))

    @torch.inference_mode()
    def weigh(batch: Sequence[_Window], weighed: _Weighed) -> None:
        for window, result in zip(batch, weighed(), strict=True):
            scored = result[window.scored]
            evidence[window.text][window.first : window.first + len(scored)] = scored.half().cpu().numpy()
        unread.subtract(window.text for window in batch)
        if done := sorted({window.text for window in batch if not unread[window.text]}):
            finish(done)

    batches = _batches(windows, BATCH_TOKENS_BESIDE if lm.reads_beside else BATCH_TOKENS)
    with _Beside(active=len(batches) > 1 and lm.reads_beside) as beside:
        for number, batch in enumerate(batches):
            if number:
                on_batch()
            beside.do(functools.partial(weigh, batch, read(batch)))
    if empty := [i for i in range(len(texts)) if i not in unread]:
        finish(empty)
    return [made[i] for i in range(len(texts))]


def _batches(windows: Sequence[_Window], tokens: int) -> list[Sequence[_Window]]:
    """Neighbours, as many as fit into a forward pass of so many tokens."""
    batches, start = [], 0
    while start < len(windows):
        stop = start + 1
        while stop < len(windows) and (stop + 1 - start) * len(windows[stop].inputs) <= tokens:
            stop += 1
        batches.append(windows[start:stop])
        start = stop
    return batches


class _Beside:
    """One piece of work at a time beside the caller's, or in it unless `active`. What a piece raises comes out at the next or the end."""

    def __init__(self, active: bool) -> None:
        self._executor = ThreadPoolExecutor(1, "beside") if active else None
        self._latest: Future[None] | None = None

    def __enter__(self) -> _Beside:
        return self

    def do(self, work: Callable[[], None]) -> None:
        if self._executor is None:
            return work()
        if self._latest:
            self._latest.result()
        self._latest = self._executor.submit(work)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._executor:
            self._executor.shutdown()
        if self._latest and error is None:
            self._latest.result()


_Weighed = Callable[[], Sequence[Tensor]]
"""→ evidence (tokens, n) of each window: the part of a reading that uses no model."""
_Read = Callable[[Sequence[_Window]], _Weighed]


def _state_reader(lm: FrozenLM, extractor: Extractor, layers: tuple[int, ...]) -> _Read:
    contexts = lm.compiled(extractor.contexts, torch.zeros(2, len(layers), lm.hidden_size))

    def read(batch: Sequence[_Window]) -> _Weighed:
        targets = torch.tensor([token for window in batch for token in window.targets], device=lm.device)
        states = lm.read_states([window.inputs for window in batch], layers)
        lengths = [len(window.inputs) for window in batch]
        found = contexts(states)
        return lambda: extractor(found, lm.embed(targets), targets, lengths).split(lengths)

    return read


def _token_reader(lm: FrozenLM, extractor: TextExtractor) -> _Read:
    def read(batch: Sequence[_Window]) -> _Weighed:
        # One by one: unpadded, a text has the same evidence whatever is read beside it.
        rows = [torch.tensor([window.targets], device=lm.device) for window in batch]
        found = [extractor(lm.embed(row), shares(row, torch.ones_like(row, dtype=torch.bool)))[0] for row in rows]
        return lambda: found

    return read
