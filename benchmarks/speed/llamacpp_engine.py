"""llama.cpp's server as a contestant, inside this process through `xllamacpp`: the same model in its own Q4_K_M file."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xllamacpp  # pyright: ignore[reportMissingImports]  # optional

PACKAGES = ("xllamacpp",)
CONTEXT = 512
"""Tokens that each of the parallel requests may hold."""


class Engine:
    def __init__(self, gguf: str, parallel: int, top_k: int, threads: int) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = gguf
        params.n_parallel, params.n_ctx = parallel, CONTEXT * parallel
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.warmup = True
        params.verbosity = 0
        self.server = xllamacpp.Server(params)
        self.top_k = top_k

    def generate(self, prompts: list[str], new_tokens: int, seed: int) -> dict[str, Any]:
        """As many requests at once as there are prompts, each of exactly `new_tokens`."""
        requests = [
            {
                "prompt": prompt,
                "n_predict": new_tokens,
                "seed": seed + i,
                "samplers": ["top_k", "temperature"],
                "top_k": self.top_k,
                "temperature": 1.0,
                "ignore_eos": True,
                "cache_prompt": False,
            }
            for i, prompt in enumerate(prompts)
        ]
        with ThreadPoolExecutor(len(requests)) as threads:
            began = time.perf_counter()
            answers = list(threads.map(self.server.handle_completions, requests))
            seconds = time.perf_counter() - began
        written = [json.loads(answer) if isinstance(answer, (str, bytes)) else answer for answer in answers]
        tokens = sum(answer["usage"]["completion_tokens"] for answer in written)
        assert tokens == len(prompts) * new_tokens, "a text ended early: the rates would not compare"
        return {"tokens": tokens, "seconds": seconds}
