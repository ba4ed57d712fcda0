"""Reading texts: tokenise, run the extractor in windows, and return the evidence of each text.

A window carries the tokens around it as context, so work and memory grow linearly with the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
BATCH_TOKENS = 2048
"""Tokens per forward pass, padding included."""


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
    on_batch: Callable[[], None] = lambda: None,
) -> list[Evidence]:
    """Evidence of each text, in order; an empty text has none (T = 0). Texts are read without a prompt.

    Invisible characters and letters that pose as Latin ones are read past; offsets point into the texts as they were given.
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
    start = 0
    while start < len(windows):
        stop = start + 1
        while stop < len(windows) and (stop + 1 - start) * len(windows[stop].inputs) <= BATCH_TOKENS:
            stop += 1
        batch = windows[start:stop]
        start = stop
        for window, result in zip(batch, read(batch), strict=True):
            scored = result[window.scored]
            evidence[window.text][window.first : window.first + len(scored)] = scored.half().cpu().numpy()
        if start < len(windows):
            on_batch()
    return [Evidence(rows, offsets) for rows, offsets in zip(evidence, bodies, strict=True)]


_Read = Callable[[Sequence[_Window]], Sequence[Tensor]]
"""Windows → evidence (tokens, n) of each."""


def _state_reader(lm: FrozenLM, extractor: Extractor, layers: tuple[int, ...]) -> _Read:
    contexts = lm.compiled(extractor.contexts, torch.zeros(2, len(layers), lm.hidden_size))

    def read(batch: Sequence[_Window]) -> Sequence[Tensor]:
        targets = torch.tensor([token for window in batch for token in window.targets], device=lm.device)
        states = lm.read_states([window.inputs for window in batch], layers)
        lengths = [len(window.inputs) for window in batch]
        return extractor(states, lm.embed(targets), targets, lengths, contexts).split(lengths)

    return read


def _token_reader(lm: FrozenLM, extractor: TextExtractor) -> _Read:
    def read(batch: Sequence[_Window]) -> Sequence[Tensor]:
        # One by one: unpadded, a text has the same evidence whatever is read beside it.
        rows = [torch.tensor([window.targets], device=lm.device) for window in batch]
        return [extractor(lm.embed(row), shares(row, torch.ones_like(row, dtype=torch.bool)))[0] for row in rows]

    return read
