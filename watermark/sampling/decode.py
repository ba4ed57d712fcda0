"""The decoding loop: a batch of prompts through the frozen model, token by token, each row with its own conditioning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from watermark.base_model import FrozenLM
from watermark.embedding.embedder import Conditioning, Embedder
from watermark.embedding.repeats import ContextMemory
from watermark.sampling.candidates import BatchSettings, draw, select_candidates
from watermark.sampling.requests import SamplingSettings

StepHook = Callable[[int, int], None]
"""Called with (steps done, steps at most) after every token; may raise `Cancelled` to stop."""

PREFILL_CHUNK = 512
"""Prompt tokens per forward pass: bounds the memory of long prompts."""


@dataclass(frozen=True)
class Row:
    """One row of a batch, ready to decode."""

    prompt_ids: list[int]
    sampling: SamplingSettings
    uniforms: Tensor
    """(max_new_tokens,) float64 in [0, 1), drawn from the request's seed before decoding starts."""


@dataclass(frozen=True)
class Decoded:
    ids: list[int]
    marked: int
    """Tokens drawn from a reweighted distribution."""
    stopped: bool
    """True if the model ended the text; the end-of-text token is not among `ids`."""


@dataclass
class _State:
    cache: DynamicCache
    mask: Tensor
    position: Tensor
    inputs: Tensor


def _prefill(lm: FrozenLM, prompts: Sequence[list[int]]) -> _State:
    """Left-pad and run everything but each prompt's last token, which becomes the input of the first step."""
    longest = max(len(ids) for ids in prompts)
    pad = lm.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=lm.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=lm.device)
    position = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache = DynamicCache(config=lm.model.config)
    for start in range(0, longest - 1, PREFILL_CHUNK):
        stop = min(start + PREFILL_CHUNK, longest - 1)
        lm.model(
            input_ids=ids[:, start:stop],
            attention_mask=mask[:, :stop],
            position_ids=position[:, start:stop],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return _State(cache, mask, position[:, -1:], ids[:, -1:])


def _advance(lm: FrozenLM, state: _State, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """One token through the model → logits (B, V) of the next one and the hidden states (B, layers, hidden) that predict it."""
    output = lm.model(
        input_ids=state.inputs,
        attention_mask=state.mask,
        position_ids=state.position,
        past_key_values=state.cache,
        use_cache=True,
        output_hidden_states=list(layers),
        logits_to_keep=1,
    )
    states = torch.stack([output.hidden_states[layer][:, -1] for layer in layers], dim=1)
    return output.logits[:, -1], states


@torch.inference_mode()
def decode(
    lm: FrozenLM,
    embedder: Embedder | None,
    rows: Sequence[Row],
    conditioning: Conditioning | None,
    layers: tuple[int, ...],
    on_step: StepHook | None = None,
) -> list[Decoded]:
    """Continue all prompts; rows are independent of each other. `conditioning` has one row per prompt.

    A batch in which no row is marked, or that has no embedder, runs the very same loop without it.
    """
    size, steps = len(rows), max(row.sampling.max_new_tokens for row in rows)
    settings = BatchSettings.stack([row.sampling for row in rows], lm.vocab_size, lm.device)
    uniforms = torch.zeros(size, steps, dtype=torch.float64)
    for i, row in enumerate(rows):
        uniforms[i, : len(row.uniforms)] = row.uniforms
    uniforms = uniforms.to(lm.device)
    at_least = torch.tensor([row.sampling.min_new_tokens for row in rows], device=lm.device)
    at_most = torch.tensor([row.sampling.max_new_tokens for row in rows], device=lm.device)
    end_ids = torch.tensor(lm.end_ids, dtype=torch.long, device=lm.device)
    if conditioning is not None and not bool((conditioning.strength > 0).any()):
        conditioning = None
    memory = ContextMemory(size, steps, conditioning.signs.shape[1], lm.device) if conditioning else None

    state = _prefill(lm, [row.prompt_ids for row in rows])
    written = torch.zeros(size, steps, dtype=torch.long, device=lm.device)
    marks = torch.zeros(size, dtype=torch.long, device=lm.device)
    lengths = torch.zeros(size, dtype=torch.long, device=lm.device)
    stopped = torch.zeros(size, dtype=torch.bool, device=lm.device)
    for step in range(steps):
        logits, states = _advance(lm, state, layers)
        early = step < at_least
        if len(end_ids) and bool(early.any()):
            logits[:, end_ids] = logits[:, end_ids].masked_fill(early.unsqueeze(1), -torch.inf)
        ids, probs = select_candidates(logits, settings)
        active = ~stopped & (step < at_most)
        if embedder and conditioning and memory:
            probs, marked = embedder(states, ids, probs, conditioning, memory)
            marks += marked & active
        token = ids.gather(1, draw(probs, uniforms[:, step]).unsqueeze(1))
        if memory:
            memory.record(token.squeeze(1))
        stopped |= active & torch.isin(token.squeeze(1), end_ids)
        written[:, step] = token.squeeze(1)
        lengths += active & ~stopped
        if on_step:
            on_step(step + 1, steps)
        if not bool((~stopped & (step + 1 < at_most)).any()):
            break
        state.inputs = token
        state.position = state.position + 1
        state.mask = torch.cat([state.mask, state.mask.new_ones(size, 1)], dim=1)
    return [Decoded(written[i, : int(lengths[i])].tolist(), min(int(marks[i]), int(lengths[i])), bool(stopped[i])) for i in range(size)]
