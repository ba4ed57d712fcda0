"""The library's front door: a frozen language model with its watermark pair, which writes marked text and verifies any text."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from watermark.base_model import FrozenLM
from watermark.checkpoint import load_pair
from watermark.codebook.codewords import Codebook, codeword
from watermark.codebook.keys import IssuerKey
from watermark.embedding.embedder import Conditioning
from watermark.errors import InvalidInput, PromptTooLong
from watermark.extraction.extractor import Evidence
from watermark.extraction.reading import leading_token, read_evidence
from watermark.pair import WatermarkPair
from watermark.sampling.decode import Decoded, Row, StepHook, decode
from watermark.sampling.requests import GenerationRequest, GenerationResult, Marking
from watermark.statistics.correction import sidak
from watermark.statistics.decision import decide
from watermark.statistics.rademacher import RademacherTail
from watermark.statistics.verdict import TokenEvidence, Verdict

FALSE_POSITIVE_RATE = 1e-3
"""Default threshold on the corrected p-value."""
CODEBOOK_CHUNK = 16_384
"""Candidates per matrix product: bounds memory at 32 MiB for 512 signs."""


class WatermarkedModel:
    """Generates and verifies. Stateless between calls; one instance serves several threads."""

    def __init__(self, lm: FrozenLM, pair: WatermarkPair, name: str) -> None:
        self.lm, self.pair, self.name = lm, pair, name
        self.config = pair.config

    @classmethod
    def load(cls, lm: FrozenLM, checkpoint: Path) -> WatermarkedModel:
        """Attach the checkpoint in folder `checkpoint` to `lm`. Raises CheckpointError."""
        return cls(lm, load_pair(checkpoint, lm), checkpoint.name)

    @property
    def min_tokens(self) -> int:
        """Below this many tokens a missing mark means nothing (`insufficient_text`)."""
        return self.config.min_tokens

    # ---- generation -------------------------------------------------------------------------------------------------

    def check(self, request: GenerationRequest) -> None:
        """Raise InvalidInput or PromptTooLong for a request that cannot be generated, before any work is done."""
        self._prompt_ids(request)

    def generate(self, requests: Sequence[GenerationRequest], *, on_step: StepHook | None = None) -> list[GenerationResult]:
        """Continue all prompts as one batch, then verify every marked text as a verifier would.

        `on_step(done, at most)` is called after every token and may raise `Cancelled`. Raises what `check` raises.
        """
        if not requests:
            return []
        prompts = [self._prompt_ids(request) for request in requests]
        seeds = [secrets.randbits(63) if r.sampling.seed is None else r.sampling.seed for r in requests]
        rows = [
            Row(ids, r.sampling, torch.from_numpy(np.random.default_rng(seed).random(r.sampling.max_new_tokens)))
            for ids, r, seed in zip(prompts, requests, seeds, strict=True)
        ]
        decoded = decode(self.lm, self.pair.embedder, rows, self._conditioning(requests, seeds), self.config.query_layers, on_step)
        texts = [self.lm.decode(d.ids) for d in decoded]
        markings = self._self_check(requests, decoded, texts)
        return [
            GenerationResult(text, tuple(d.ids), len(ids), "stop" if d.stopped else "length", seed, marking)
            for text, d, ids, seed, marking in zip(texts, decoded, prompts, seeds, markings, strict=True)
        ]

    def _prompt_ids(self, request: GenerationRequest) -> list[int]:
        ids = self.lm.tokenize(request.prompt).ids
        if not ids:
            ids = leading_token(self.lm)
        if not ids:
            raise InvalidInput(f"The prompt is empty, and {self.lm.name!r} has no token to begin a text with. Give a prompt.")
        room = self.lm.context_size - request.sampling.max_new_tokens
        if len(ids) > room:
            raise PromptTooLong(
                f"The prompt has {len(ids):,} tokens; with max_new_tokens = {request.sampling.max_new_tokens:,} at most {max(room, 0):,} "
                f"fit the context of {self.lm.context_size:,}. Shorten the prompt or ask for fewer tokens."
            )
        return ids

    def _conditioning(self, requests: Sequence[GenerationRequest], seeds: Sequence[int]) -> Conditioning:
        signs = np.ones((len(requests), self.config.n), dtype=np.float32)
        for row, (request, seed) in enumerate(zip(requests, seeds, strict=True)):
            if request.key is not None:
                # A stream of its own: the nonce must not disturb which tokens a seed draws.
                nonce = int(np.random.default_rng([seed, 1]).integers(2**self.config.nonce_bits))
                signs[row] = codeword(request.key, request.payload, nonce, self.config.nonce_bits, self.config.n)
        strength = [r.strength if r.key is not None else 0.0 for r in requests]
        return Conditioning(torch.from_numpy(signs).to(self.lm.device), torch.tensor(strength, device=self.lm.device))

    def _self_check(self, requests: Sequence[GenerationRequest], decoded: Sequence[Decoded], texts: Sequence[str]) -> list[Marking]:
        wanted = [i for i, r in enumerate(requests) if r.key is not None and r.strength > 0]
        read = dict(zip(wanted, self._read([texts[i] for i in wanted]), strict=True))
        return [self._marking(r, d, read.get(i)) for i, (r, d) in enumerate(zip(requests, decoded, strict=True))]

    def _marking(self, request: GenerationRequest, decoded: Decoded, evidence: Evidence | None) -> Marking:
        tokens = len(decoded.ids)
        if request.key is None or evidence is None:
            return Marking(False, None, None, tokens, 0, None, "Marking was not asked for.")
        verdict = self._decide([evidence], [request.key], FALSE_POSITIVE_RATE, "public")[0]
        payload = f"{request.payload:0{-(-request.key.payload_bits // 4)}x}" if request.key.payload_bits else None
        reason = None
        if verdict.verdict != "marked" or verdict.payload != payload:
            if decoded.marked == 0:
                reason = "No token left room for a mark: greedy decoding, or the model was certain of every token."
            elif tokens < self.min_tokens:
                reason = f"Too short: {tokens} tokens; marks are found reliably from about {self.min_tokens}."
            elif verdict.verdict == "marked":
                reason = "The mark is found, but its payload is not read back as written: the text is too short or too predictable for it."
            else:
                reason = f"Too predictable or too weakly marked: {decoded.marked} of {tokens} tokens carry a mark, not enough to find it."
        return Marking(reason is None, request.key.name, payload, tokens, decoded.marked, verdict.p_value, reason)

    # ---- verification -----------------------------------------------------------------------------------------------

    def verify(
        self,
        texts: Sequence[str],
        keys: Sequence[IssuerKey],
        *,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        detail: Literal["public", "full"] = "full",
    ) -> list[Verdict]:
        """One verdict per text, in order, against all codewords of `keys`; `full` adds the evidence per token.

        Raises InvalidInput: no keys, more candidates than can be tried, or a false-positive rate outside (0, 1).
        """
        return self._decide(self._read(texts), keys, false_positive_rate, detail)

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        """Evidence of each text for every sign of a codeword; independent of any key."""
        return self._read(texts)

    def _read(self, texts: Sequence[str]) -> list[Evidence]:
        return read_evidence(self.lm, self.pair.extractor, texts, self.config.query_layers)

    def _decide(
        self, evidence: Sequence[Evidence], keys: Sequence[IssuerKey], rate: float, detail: Literal["public", "full"]
    ) -> list[Verdict]:
        book = Codebook(keys, self.config.nonce_bits, self.config.n)
        if not evidence:
            return []
        totals = np.stack([e.total() for e in evidence])
        rows, signs = _best_candidates(book, totals)
        verdicts = []
        for i, total in enumerate(totals):
            # Float32 finds the best candidate quickly; its p-value is taken in full precision.
            p_value = sidak(float(RademacherTail(total).pvalue(float(signs[i] @ total))), len(book))
            verdicts.append(
                decide(
                    book.candidate(int(rows[i])),
                    p_value,
                    false_positive_rate=rate,
                    tokens=evidence[i].tokens,
                    min_tokens=self.min_tokens,
                    candidates=len(book),
                    evidence=_token_evidence(evidence[i], signs[i], total) if detail == "full" else None,
                )
            )
        return verdicts


def _best_candidates(book: Codebook, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each text's evidence (texts, n): the index of its best candidate and that candidate's signs, float64 (texts, n).

    One pass over the codebook for all texts: expanding codewords costs more than comparing them.
    """
    rows = np.zeros(len(totals), dtype=np.int64)
    best = np.full(len(totals), -np.inf)
    signs = np.zeros(totals.shape)
    for first, chunk in book.chunks(CODEBOOK_CHUNK):
        statistics = chunk.astype(np.float32) @ totals.T.astype(np.float32)
        top = statistics.argmax(axis=0)
        better = np.flatnonzero(statistics[top, np.arange(len(totals))] > best)
        best[better] = statistics[top[better], better]
        rows[better] = first + top[better]
        signs[better] = chunk[top[better]]
    return rows, signs


def _token_evidence(evidence: Evidence, signs: np.ndarray, total: np.ndarray) -> list[TokenEvidence]:
    scores = evidence.per_token @ signs / max(float(np.linalg.norm(total)), 1e-12)
    return [TokenEvidence(start, end, float(score)) for (start, end), score in zip(evidence.offsets, scores, strict=True)]
