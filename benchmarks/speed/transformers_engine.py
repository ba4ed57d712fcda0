"""transformers as a contestant: `generate` in float32, plain or with one of the watermarks it comes with, and their detectors.

KGW is Kirchenbauer et al. (ICML 2023) with the library's defaults; SynthID is Dathathri et al. (Nature 634, 2024) with the keys of the
library's own example.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    SynthIDTextWatermarkingConfig,
    SynthIDTextWatermarkLogitsProcessor,
    WatermarkDetector,
    WatermarkingConfig,
)

PACKAGES = ("transformers", "torch")
KGW = WatermarkingConfig()
SYNTHID = SynthIDTextWatermarkingConfig(ngram_len=5, keys=[654, 400, 836, 123, 340, 443, 597, 160, 57])
SCHEMES = {"plain": None, "kgw": KGW, "synthid": SYNTHID}


class Engine:
    def __init__(self, folder: str, top_k: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
        loader: Any = AutoModelForCausalLM
        self.model = loader.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
        self.top_k = top_k
        self.kgw = WatermarkDetector(self.model.config.get_text_config(), "cpu", KGW)
        self.synthid = _MeanDetector()

    def generate(self, prompts: list[str], new_tokens: int, seed: int, scheme: str) -> dict[str, Any]:
        """One batch, each text of exactly `new_tokens`."""
        torch.manual_seed(seed)
        began = time.perf_counter()
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True)
        output = self.model.generate(
            **inputs,
            do_sample=True,
            temperature=1.0,
            top_k=self.top_k,
            top_p=1.0,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            watermarking_config=SCHEMES[scheme],
        )
        self.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        written = output.numel() - inputs["input_ids"].numel()
        return {"tokens": written, "seconds": time.perf_counter() - began}

    def detect(self, calls: list[list[str]], scheme: str) -> dict[str, list[float]]:
        """Seconds of each call, from token ids to p-values: the tokenizer's time is not counted."""
        detector = {"kgw": lambda ids: self.kgw(ids, return_dict=True), "synthid": self.synthid}[scheme]
        seconds = []
        for texts in calls:
            rows = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
            shortest = min(map(len, rows))  # the detectors take rectangles
            ids = torch.tensor([row[:shortest] for row in rows])
            began = time.perf_counter()
            detector(ids)
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds}


class _MeanDetector:
    """SynthID's weighted mean of g-values (Dathathri et al., Nature 634, 2024) as a z-score; contexts that recur are left out.

    The library's Bayesian detector must be trained for each key first; it works on the same g-values, so it is not faster.
    """

    def __init__(self) -> None:
        self.processor = SynthIDTextWatermarkLogitsProcessor(**SYNTHID.to_dict(), device=torch.device("cpu"))
        depth = len(SYNTHID.keys)
        self.weights = torch.linspace(10, 1, depth) * depth / torch.linspace(10, 1, depth).sum()

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (B, T) → p-values (B,)."""
        values: Any = ids
        g = self.processor.compute_g_values(values).float()  # (B, T - 4, depth)
        counted = self.processor.compute_context_repetition_mask(values).float()  # (B, T - 4)
        scored = counted.sum(dim=1)
        mean = ((g * self.weights).mean(dim=2) * counted).sum(dim=1) / scored
        deviation = (self.weights.square().sum() / 4).sqrt() / len(self.weights) / scored.sqrt()
        return 0.5 * torch.special.erfc((mean - 0.5) / deviation / 2**0.5)
