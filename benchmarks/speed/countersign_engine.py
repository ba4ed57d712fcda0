"""Countersign as a contestant: its public interface, as `generate` and the service use it."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any

import torch

from models.registry import load_base_model
from watermark import GenerationRequest, GenerationResult, IssuerKey, SamplingSettings, WatermarkedModel
from watermark.generation import Generation, GenerationSession

PACKAGES = ("countersign", "torch")
KEY = IssuerKey("speed", bytes(range(32)))
TURN = 4
"""Tokens of each that a marked batch and an unmarked one write in turns."""


class Engine:
    def __init__(self, base_model: str, checkpoint: str, top_k: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model = WatermarkedModel.load(load_base_model(base_model), Path(checkpoint))
        self.top_k = top_k

    def generate(self, prompts: list[str], new_tokens: int, seed: int, marked: bool) -> dict[str, Any]:
        """One batch, each text of exactly `new_tokens`. `seconds` is all of it, the self-check of marked texts included."""
        began = time.perf_counter()
        session, admitted = self._begun(prompts, new_tokens, seed, marked)
        while len(session):
            session.step()
        seconds = time.perf_counter() - began
        results = _finished(admitted, new_tokens)
        return {"tokens": len(results) * new_tokens, "seconds": seconds, "texts": [result.text for result in results]}

    def generate_in_turns(self, prompts: list[str], new_tokens: int, seed: int) -> dict[str, dict[str, float]]:
        """A marked batch and an unmarked one, `TURN` steps of each in turns, so that both have the same share of a machine whose speed
        changes from one second to the next.

        For each, `seconds` of all steps, the last one included, which also checks the texts; and `decoding_seconds` of the others, in which
        `decoding_tokens` were written. Prompts are read before.
        """
        begun = {name: self._begun(prompts, new_tokens, seed, name == "marked") for name in ("marked", "unmarked")}
        found = {name: {"seconds": 0.0, "decoding_seconds": 0.0} for name in begun}
        for first in range(0, new_tokens, TURN):
            for name in list(begun)[:: -1 if first // TURN % 2 else 1]:
                for step in range(first, min(first + TURN, new_tokens)):
                    began = time.perf_counter()
                    begun[name][0].step()
                    seconds = time.perf_counter() - began
                    found[name]["seconds"] += seconds
                    found[name]["decoding_seconds"] += seconds if step < new_tokens - 1 else 0.0
        for _, admitted in begun.values():
            _finished(admitted, new_tokens)
        tokens = {"tokens": len(prompts) * new_tokens, "decoding_tokens": len(prompts) * (new_tokens - 1)}
        return {name: {**times, **tokens} for name, times in found.items()}

    def _begun(self, prompts: list[str], new_tokens: int, seed: int, marked: bool) -> tuple[GenerationSession, list[Generation]]:
        requests = [
            GenerationRequest(prompt, self._sampling(new_tokens, seed + i), KEY if marked else None) for i, prompt in enumerate(prompts)
        ]
        session = self.model.session()
        return session, session.admit(requests, hurry=True)

    def _sampling(self, new_tokens: int, seed: int) -> SamplingSettings:
        return SamplingSettings(max_new_tokens=new_tokens, min_new_tokens=new_tokens, temperature=1.0, top_k=self.top_k, seed=seed)

    def detect(self, calls: list[list[str]]) -> dict[str, list[Any]]:
        """From texts to full verdicts; seconds of each call, and tokens read."""
        seconds, tokens = [], []
        for texts in calls:
            began = time.perf_counter()
            verdicts = self.model.verify(texts, [KEY])
            seconds.append(time.perf_counter() - began)
            tokens.append(sum(verdict.tokens for verdict in verdicts))
        return {"seconds": seconds, "tokens": tokens}

    def joined(self, texts: list[str], lengths: list[int], seed: int) -> list[str]:
        """Texts of about so many tokens each, made of the sentences of `texts` in an order drawn anew each time round."""
        random, sentences = Random(seed), [s.strip() for text in texts for s in text.split(". ") if s.strip()]
        ids: list[int] = []
        while len(ids) < max(lengths):
            random.shuffle(sentences)
            tokens = self.model.lm.tokenize(". ".join(sentences) + ". ")
            ids += tokens.ids[tokens.prefix :]
        return [self.model.lm.decode(ids[:length]) for length in lengths]


def _finished(admitted: list[Generation], new_tokens: int) -> list[GenerationResult]:
    """Raises AssertionError unless every text is finished and has exactly `new_tokens`: the rates would not compare."""
    results = [generation.result for generation in admitted if generation.result is not None]
    assert [len(result.token_ids) for result in results] == [new_tokens] * len(admitted), "a text ended early, or not at all"
    return results
