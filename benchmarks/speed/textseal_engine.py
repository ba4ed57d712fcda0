"""textseal as a contestant: its generators and detectors on the same float32 model, unmarked, Gumbel-max and green-list.

Its generators draw by top-p only, over the sorted vocabulary; the library's own default is taken.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from textseal.common.watermark.core import WatermarkConfig  # pyright: ignore[reportMissingImports]  # optional
from textseal.posthoc.detector import build_detector  # pyright: ignore[reportMissingImports]
from textseal.posthoc.generator import build_generator  # pyright: ignore[reportMissingImports]
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGES = ("textseal", "transformers", "torch")


class Engine:
    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        loader: Any = AutoModelForCausalLM
        model = loader.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
        configs = {name: WatermarkConfig(watermark_type=name) for name in ("none", "gumbelmax", "greenlist")}
        self.generators = {name: build_generator(model, self.tokenizer, config) for name, config in configs.items()}
        self.detectors = {name: build_detector(self.tokenizer, config) for name, config in configs.items() if name != "none"}
        for generator in self.generators.values():
            generator.eos_id = None  # texts do not end before their length

    def generate(self, prompts: list[str], new_tokens: int, seed: int, scheme: str) -> dict[str, Any]:
        """One batch. The rows begin together, after the shortest prompt: every token drawn counts, although those in the place of a
        longer prompt are thrown away."""
        torch.manual_seed(seed)
        lengths = [len(self.tokenizer.encode(prompt, add_special_tokens=False)) for prompt in prompts]
        began = time.perf_counter()
        self.generators[scheme].generate(prompts, new_tokens, temperature=1.0)
        return {"tokens": len(prompts) * (new_tokens + max(lengths) - min(lengths)), "seconds": time.perf_counter() - began}

    def detect(self, calls: list[list[str]], scheme: str) -> dict[str, list[float]]:
        """Seconds of each call, from texts to p-values."""
        detector, seconds = self.detectors[scheme], []
        for texts in calls:
            began = time.perf_counter()
            for scores in detector.get_scores_by_t(texts, scoring_method="v2", seen_windows=set()):
                detector.get_pvalue(sum(scores), len(scores), eps=1e-200)
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds}
