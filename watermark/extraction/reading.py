"""Reading texts: tokenise, run the trunk in windows, and return the evidence of each text.

A window carries the tokens before it as context, so work and memory grow linearly with the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from watermark.base_model import FrozenLM, Tokens
from watermark.extraction.extractor import Evidence, Extractor
from watermark.normalise import normalise

WINDOW = 768
"""Tokens scored per window."""
CONTEXT = 256
"""Tokens before them that the trunk sees as well."""
BATCH_TOKENS = 2048
"""Tokens per forward pass, padding included."""


@dataclass(frozen=True)
class _Window:
    text: int
    first: int
    """Index of the first scored token in the text's tokens (special prefix not counted)."""
    inputs: list[int]
    targets: list[int]
    """Tokens predicted by `inputs`, one each; the last `scored` of them count."""
    scored: int


def leading_token(lm: FrozenLM) -> list[int]:
    """What stands in front of a text whose beginning is unknown: the begin-of-text token, or else the end-of-text one."""
    tokens = lm.tokenize("a")
    return tokens.ids[: tokens.prefix] or list(lm.end_ids[:1])


def _windows(text: int, tokens: Tokens, lead: list[int]) -> list[_Window]:
    ids = tokens.ids[tokens.prefix :]
    found = []
    # Without any token to stand in front, the first token has no context and cannot be scored.
    for first in range(0 if lead else 1, len(ids), WINDOW):
        last = min(first + WINDOW, len(ids))
        low = max(0, first - CONTEXT)
        row = lead[-1:] + ids[low:last]
        found.append(_Window(text, first, row[:-1], row[1:], last - first))
    return found


@torch.inference_mode()
def read_evidence(
    lm: FrozenLM,
    extractor: Extractor,
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
    n = extractor.codes.packed.shape[1] * 8
    evidence = [np.zeros((len(body), n), dtype=np.float16) for body in bodies]
    # Texts of about one length are read together: a backend may have to pad them to the longest.
    windows = sorted((w for i, tokens in enumerate(tokenised) for w in _windows(i, tokens, lead)), key=lambda w: len(w.inputs))
    contexts = lm.compiled(extractor.contexts, torch.zeros(2, len(layers), lm.hidden_size))
    start = 0
    while start < len(windows):
        stop = start + 1
        while stop < len(windows) and (stop + 1 - start) * len(windows[stop].inputs) <= BATCH_TOKENS:
            stop += 1
        batch = windows[start:stop]
        start = stop
        targets = torch.tensor([token for window in batch for token in window.targets], device=lm.device)
        states = lm.read_states([window.inputs for window in batch], layers)
        lengths = [len(window.inputs) for window in batch]
        results = extractor(states, lm.embed(targets), targets, lengths, contexts).half().cpu().split(lengths)
        for window, result in zip(batch, results, strict=True):
            evidence[window.text][window.first : window.first + window.scored] = result[len(result) - window.scored :].numpy()
        if start < len(windows):
            on_batch()
    return [Evidence(rows, offsets) for rows, offsets in zip(evidence, bodies, strict=True)]
