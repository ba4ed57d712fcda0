"""Countersign as a contestant: its public interface, as `generate` and the service use it."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any

import torch

from models.registry import load_base_model
from watermark import GenerationRequest, IssuerKey, SamplingSettings, WatermarkedModel

PACKAGES = ("countersign", "torch")
KEY = IssuerKey("speed", bytes(range(32)))


class Engine:
    def __init__(self, base_model: str, checkpoint: str, top_k: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model = WatermarkedModel.load(load_base_model(base_model), Path(checkpoint))
        self.top_k = top_k

    def generate(self, prompts: list[str], new_tokens: int, seed: int, marked: bool) -> dict[str, Any]:
        """One batch, each text of exactly `new_tokens`.

        `seconds` is all of it, the self-check of marked texts included. `decoding_seconds` ends before the last step, which also checks
        the texts, and `decoding_tokens` are those written until then.
        """
        requests = [
            GenerationRequest(prompt, self._sampling(new_tokens, seed + i), KEY if marked else None) for i, prompt in enumerate(prompts)
        ]
        began = time.perf_counter()
        session = self.model.session()
        admitted = session.admit(requests, hurry=True)
        for _ in range(new_tokens - 1):
            session.step()
        decoded = time.perf_counter()
        while len(session):
            session.step()
        ended = time.perf_counter()
        results = [generation.result for generation in admitted if generation.result is not None]
        tokens = sum(len(result.token_ids) for result in results)
        assert tokens == len(prompts) * new_tokens, "a text ended early: the rates would not compare"
        return {
            "tokens": tokens,
            "seconds": ended - began,
            "decoding_tokens": tokens - len(prompts),
            "decoding_seconds": decoded - began,
            "texts": [result.text for result in results],
        }

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
