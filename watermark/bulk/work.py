"""What is done to texts: verified against keys, or continued with a mark. The same for one process and for many."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from watermark.bulk.lines import Record
from watermark.codebook.keys import IssuerKey
from watermark.sampling.requests import GenerationRequest, GenerationResult

if TYPE_CHECKING:
    from watermark.pipeline import WatermarkedModel
    from watermark.verification import Detail

T = TypeVar("T")
OnStep = Callable[[int, int], None]
"""(steps done, at most so many)."""


@dataclass(frozen=True)
class TextWork(Generic[T]):
    """`read` makes an item of (index of the line from 0, text) or raises InvalidInput; `work` makes one record per item of a batch."""

    title: str
    field: str
    """The key under which a line has its text."""
    read: Callable[[int, str], T]
    work: Callable[[Sequence[T], OnStep], Sequence[Record]]


@dataclass(frozen=True)
class Summary:
    """What a run did, for `--json` and for people."""

    lines: int
    errors: int
    resumed: int
    """Lines that an earlier, broken-off run had done."""
    out: str


def verifying(model: WatermarkedModel, keys: Sequence[IssuerKey], false_positive_rate: float, detail: Detail) -> TextWork[str]:
    """{"text"} → the verdict."""

    def work(texts: Sequence[str], _: OnStep) -> Sequence[Record]:
        found = model.verify(texts, keys, false_positive_rate=false_positive_rate, detail=detail)
        return [dataclasses.asdict(verdict) for verdict in found]

    return TextWork("verify", "text", lambda _, text: text, work)


def generating(model: WatermarkedModel, template: GenerationRequest) -> TextWork[GenerationRequest]:
    """{"prompt"} → {"prompt", "text", "marking"}; all but the prompt and the line's own seed as in `template`."""

    def read(index: int, prompt: str) -> GenerationRequest:
        seed = template.sampling.seed
        own = dataclasses.replace(template.sampling, seed=None if seed is None else line_seed(seed, index))
        request = dataclasses.replace(template, prompt=prompt, sampling=own)
        model.check(request)
        return request

    def work(requests: Sequence[GenerationRequest], on_step: OnStep) -> Sequence[Record]:
        results = model.generate(requests, on_step=on_step)
        return [generation_record(request, result) for request, result in zip(requests, results, strict=True)]

    return TextWork("generate", "prompt", read, work)


def line_seed(seed: int, index: int) -> int:
    """The seed of line `index` (from 0): independent of the other lines and of the batch size."""
    return int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generation_record(request: GenerationRequest, result: GenerationResult) -> Record:
    """What stands in the output for one prompt."""
    return {"prompt": request.prompt, "text": result.text, "marking": dataclasses.asdict(result.marking)}
