"""Our own marks, of any kind of checkpoint: everything goes through `WatermarkedModel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log10

from watermark.benchmark.methods import Detection, Order
from watermark.codebook.keys import IssuerKey
from watermark.evaluation.generation import evaluation_keys
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import GenerationRequest, SamplingSettings

VERIFIED_AT_ONCE = 32


class Ours:
    """Marks without a payload, as the peers' are; several keys take turns. See `Method`."""

    def __init__(self, model: WatermarkedModel, digest: str, seed: int) -> None:
        self.model, self.name = model, model.name
        self.title = f"Countersign ({model.name})"
        self.keys = evaluation_keys(seed)
        self.settings = {
            "checkpoint": model.name,
            "digest": digest,
            "backend": model.lm.backend,
            "keys": len(self.keys),
            "nonce_bits": model.config.nonce_bits,
        }

    def write(self, orders: Sequence[Order], sampling: SamplingSettings, *, marked: bool = True) -> list[list[int]]:
        return self.write_with([self.key(order.number) if marked else None for order in orders], orders, sampling)

    def write_with(
        self, keys: Sequence[IssuerKey | None], orders: Sequence[Order], sampling: SamplingSettings, payloads: Sequence[int] = ()
    ) -> list[list[int]]:
        exact = replace(sampling, min_new_tokens=sampling.max_new_tokens)
        requests = [
            GenerationRequest(order.prompt, replace(exact, seed=order.seed), key, payload)
            for order, key, payload in zip(orders, keys, payloads or [0] * len(orders), strict=True)
        ]
        return [list(result.token_ids) for result in self.model.generate(requests)]

    def key(self, number: int) -> IssuerKey:
        return self.keys[number % len(self.keys)]

    def detector(self) -> Ours:
        return self

    def __call__(self, texts: Sequence[str], numbers: Sequence[int]) -> list[Detection]:
        """-log10 of the corrected p-value that the verdict states."""
        found: dict[int, Detection] = {}
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # of similar length together
        for first in range(0, len(order), VERIFIED_AT_ONCE):
            batch = order[first : first + VERIFIED_AT_ONCE]
            evidence = self.model.evidence([texts[i] for i in batch])
            for i, one in zip(batch, evidence, strict=True):
                p = self.model.verdicts([one], [self.key(numbers[i])])[0].p_value
                found[i] = Detection(-log10(p), p)
        return [found[i] for i in range(len(texts))]
