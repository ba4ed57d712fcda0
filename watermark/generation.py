"""Generation while requests come and go: each is written, stopped and self-checked by itself, in one running batch."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from watermark.codebook.codewords import codeword
from watermark.codebook.nonce import nonce_for
from watermark.errors import InvalidInput, PromptTooLong
from watermark.extraction.reading import leading_token
from watermark.sampling.decode import Row, RunningBatch
from watermark.sampling.requests import GenerationRequest, GenerationResult, Marking
from watermark.sampling.text_stream import TextStream
from watermark.statistics.verdict import hexadecimal

if TYPE_CHECKING:
    from watermark.extraction.extractor import Evidence
    from watermark.pipeline import WatermarkedModel


@dataclass(eq=False)
class Generation:
    """One request in a session. `piece` is the text that the latest step added; `result` is set when it is finished."""

    request: GenerationRequest
    seed: int
    row: Row
    stream: TextStream
    piece: str = ""
    result: GenerationResult | None = None


class GenerationSession:
    """`admit` requests at any time; every `step` writes one token of each and returns the generations that went on or finished.

    A text is the same whatever runs beside it, up to rounding: the order of sums in a matrix product depends on the batch's shape.
    """

    def __init__(self, model: WatermarkedModel) -> None:
        self.model = model
        self._batch = RunningBatch(model.lm, model.pair.embedder, model.config.query_layers)
        self._running: dict[Row, Generation] = {}

    def __len__(self) -> int:
        return len(self._running)

    def admit(self, requests: Sequence[GenerationRequest], *, hurry: bool = False) -> list[Generation]:
        """Raises what `prompt_ids` raises, before anything is admitted. With `hurry` prompts are read at once, while running texts wait."""
        prompts = [prompt_ids(self.model, request) for request in requests]
        admitted = []
        for request, ids in zip(requests, prompts, strict=True):
            seed = secrets.randbits(63) if request.sampling.seed is None else request.sampling.seed
            uniforms = torch.from_numpy(np.random.default_rng(seed).random(request.sampling.max_new_tokens))
            row = Row(ids, request.sampling, uniforms, self._signs(request, seed), request.strength)
            admitted.append(Generation(request, seed, row, TextStream(self.model.lm.decode, request.sampling.stop)))
            self._running[row] = admitted[-1]
        self._batch.admit([generation.row for generation in admitted], hurry=hurry)
        return admitted

    def step(self) -> list[Generation]:
        """One token for each text whose prompt has been read. Finished texts are read as a verifier would, before they are handed out."""
        written = [self._running[row] for row in self._batch.step()]
        finished = []
        for generation in written:
            row = generation.row
            generation.piece = generation.stream.push(row.ids, last=row.done)
            if row.done or generation.stream.stopped:
                finished.append(generation)
                self.cancel(generation)
        for generation, marking in zip(finished, self._self_check(finished), strict=True):
            row, stop = generation.row, generation.row.stopped or generation.stream.stopped
            generation.result = GenerationResult(
                generation.stream.text, tuple(row.ids), len(row.prompt_ids), "stop" if stop else "length", generation.seed, marking
            )
        return written

    def cancel(self, generation: Generation) -> None:
        """Take it out. One that is finished is not touched."""
        if self._running.pop(generation.row, None):
            self._batch.remove(generation.row)

    def _signs(self, request: GenerationRequest, seed: int) -> torch.Tensor | None:
        if request.key is None:
            return None
        config = self.model.config
        nonce = nonce_for(request.key, seed, config.nonce_bits)
        return torch.from_numpy(codeword(request.key, request.payload, nonce, config.nonce_bits, config.n))

    def _self_check(self, finished: Sequence[Generation]) -> list[Marking]:
        wanted = [g for g in finished if g.request.key is not None and g.request.strength > 0]
        read = dict(zip(wanted, self.model.evidence([g.stream.text for g in wanted]), strict=True)) if wanted else {}
        return [self._marking(generation, read.get(generation)) for generation in finished]

    def _marking(self, generation: Generation, evidence: Evidence | None) -> Marking:
        request, row = generation.request, generation.row
        tokens = len(row.ids)
        if request.key is None or evidence is None:
            return Marking(False, None, None, tokens, 0, None, "Marking was not asked for.")
        verdict = self.model.verdicts([evidence], [request.key])[0]
        payload = hexadecimal(request.payload, request.key.payload_bits) if request.key.payload_bits else None
        reason = None
        if verdict.verdict != "marked" or verdict.payload != payload:
            if row.marked == 0:
                reason = "No token left room for a mark: greedy decoding, or the model was certain of every token."
            elif verdict.verdict == "marked":
                reason = "The mark is found, but its payload is not read back as written: the text is too short or too predictable for it."
            elif verdict.verdict == "insufficient_text":
                reason = f"Too short: {tokens} tokens. {self.model.enough(request.key)}"
            else:
                reason = f"Too predictable or too weakly marked: {row.marked} of {tokens} tokens carry a mark, not enough to find it."
        return Marking(reason is None, request.key.name, payload, tokens, row.marked, verdict.p_value, reason)


def prompt_ids(model: WatermarkedModel, request: GenerationRequest) -> list[int]:
    """Token ids of the request's prompt. Raises InvalidInput (an empty prompt, where the model has no token to begin with; an id that is
    no token) and PromptTooLong."""
    lm = model.lm
    if isinstance(request.prompt, str):
        ids = lm.tokenize(request.prompt).ids or leading_token(lm)
    else:
        ids = list(request.prompt)
        if not all(0 <= i < lm.vocab_size for i in ids):
            raise InvalidInput(f"The prompt holds a token id that {lm.name!r} does not have: ids are 0 … {lm.vocab_size - 1}.")
    if not ids:
        raise InvalidInput(f"The prompt is empty, and {lm.name!r} has no token to begin a text with. Give a prompt.")
    room = lm.context_size - request.sampling.max_new_tokens
    if len(ids) > room:
        raise PromptTooLong(
            f"The prompt has {len(ids):,} tokens; with max_new_tokens = {request.sampling.max_new_tokens:,} at most {max(room, 0):,} "
            f"fit the context of {lm.context_size:,}. Shorten the prompt or ask for fewer tokens."
        )
    return ids
