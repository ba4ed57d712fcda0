"""The library's front door: a frozen language model with its watermark pair, which writes marked text and verifies any text."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from watermark.base_model import FrozenLM
from watermark.calibration.file import Calibration, load_calibration
from watermark.checkpoint import load_pair, weights_digest
from watermark.codebook.book import codebook
from watermark.codebook.codewords import codeword
from watermark.codebook.keys import IssuerKey
from watermark.embedding.embedder import Conditioning
from watermark.errors import InvalidInput, PromptTooLong
from watermark.extraction.extractor import Evidence
from watermark.extraction.reading import leading_token, read_evidence
from watermark.pair import WatermarkPair
from watermark.sampling.decode import Decoded, Row, StepHook, decode
from watermark.sampling.requests import GenerationRequest, GenerationResult, Marking
from watermark.statistics.decision import check_rate
from watermark.statistics.verdict import Verdict, hexadecimal
from watermark.verification import UNCALIBRATED_TOKENS, Detail, Verifier

FALSE_POSITIVE_RATE = 1e-3
"""Default threshold on the corrected p-value."""


class WatermarkedModel:
    """Generates and verifies. Stateless between calls; one instance serves several threads."""

    def __init__(self, lm: FrozenLM, pair: WatermarkPair, name: str, calibration: Calibration | None = None) -> None:
        self.lm, self.pair, self.name, self.calibration = lm, pair, name, calibration
        self.config = pair.config

    @classmethod
    def load(cls, lm: FrozenLM, checkpoint: Path) -> WatermarkedModel:
        """Attach the checkpoint in folder `checkpoint` to `lm`. Raises CheckpointError."""
        pair = load_pair(checkpoint, lm)
        return cls(lm, pair, checkpoint.name, load_calibration(checkpoint, weights_digest(checkpoint), pair.config.n))

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
        read = dict(zip(wanted, self.evidence([texts[i] for i in wanted]), strict=True))
        return [self._marking(r, d, read.get(i)) for i, (r, d) in enumerate(zip(requests, decoded, strict=True))]

    def _marking(self, request: GenerationRequest, decoded: Decoded, evidence: Evidence | None) -> Marking:
        tokens = len(decoded.ids)
        if request.key is None or evidence is None:
            return Marking(False, None, None, tokens, 0, None, "Marking was not asked for.")
        verdict = self.verdicts([evidence], [request.key])[0]
        payload = hexadecimal(request.payload, request.key.payload_bits) if request.key.payload_bits else None
        reason = None
        if verdict.verdict != "marked" or verdict.payload != payload:
            if decoded.marked == 0:
                reason = "No token left room for a mark: greedy decoding, or the model was certain of every token."
            elif verdict.verdict == "marked":
                reason = "The mark is found, but its payload is not read back as written: the text is too short or too predictable for it."
            elif verdict.verdict == "insufficient_text":
                reason = f"Too short: {tokens} tokens. {self._enough(request.key)}"
            else:
                reason = f"Too predictable or too weakly marked: {decoded.marked} of {tokens} tokens carry a mark, not enough to find it."
        return Marking(reason is None, request.key.name, payload, tokens, decoded.marked, verdict.p_value, reason)

    def _enough(self, key: IssuerKey) -> str:
        """From which length on marks of this key are found reliably."""
        if self.calibration is None:
            return f"Marks are found reliably from about {UNCALIBRATED_TOKENS}."
        power, units = self.calibration.power, 2**self.config.nonce_bits
        tokens = power.sufficient_tokens(false_positive_rate=FALSE_POSITIVE_RATE, payload_bits=key.payload_bits, units=units)
        return f"Marks of this issuer are found reliably from about {tokens or f'{power.lengths[-1]} or more'}."

    # ---- verification -----------------------------------------------------------------------------------------------

    def verify(
        self,
        texts: Sequence[str],
        keys: Sequence[IssuerKey],
        *,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        detail: Detail = "full",
    ) -> list[Verdict]:
        """One verdict per text, in order, against all codewords of `keys`.

        `full` adds segments, confidences and the evidence per token; `public` is a coarse answer for everybody.
        Raises InvalidInput: no keys, more than can be tried, or a false-positive rate outside (0, 1).
        """
        return self.verdicts(self.evidence(texts), keys, false_positive_rate=false_positive_rate, detail=detail)

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        """Evidence of each text for every sign of a codeword; independent of any key."""
        return read_evidence(self.lm, self.pair.extractor, texts, self.config.query_layers)

    def verdicts(
        self,
        evidence: Sequence[Evidence],
        keys: Sequence[IssuerKey],
        *,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        detail: Detail = "full",
    ) -> list[Verdict]:
        """`verify` for texts that have been read before: reading takes longest, and is the same for all keys."""
        check_rate(false_positive_rate)
        book = codebook(tuple(keys), self.config.nonce_bits, self.config.n)
        return Verifier(book, self.calibration, false_positive_rate, detail).verdicts(evidence)
