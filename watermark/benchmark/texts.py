"""Texts of a method, kept in its work folder: written once, and never again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from watermark.base_model import FrozenLM
from watermark.benchmark.methods import Order, Writer
from watermark.evaluation.generation import Progress, WorkFolder, WrittenText, text_seed
from watermark.evaluation.records import Prompt
from watermark.sampling.requests import SamplingSettings


def write_texts(
    method: Writer,
    prompts: Sequence[Prompt],
    sampling: SamplingSettings,
    work: WorkFolder,
    *,
    seed: int,
    batch_size: int,
    lm: FrozenLM,
    progress: Progress,
) -> list[WrittenText]:
    """Every prompt continued by `sampling.max_new_tokens` tokens, in order."""
    orders = [Order(i, prompt.text, text_seed(seed, i)) for i, prompt in enumerate(prompts)]
    done: dict[int, dict[str, Any]] = {record["number"]: record for record in work.read("texts.jsonl")}
    missing = [order for order in orders if order.number not in done]
    for first in range(0, len(missing), batch_size):
        progress(f"{method.name}: writing", len(orders) - len(missing) + first, len(orders))
        batch = missing[first : first + batch_size]
        records = [
            {"number": order.number, "seed": order.seed, "token_ids": ids, "text": lm.decode(ids)}
            for order, ids in zip(batch, method.write(batch, sampling), strict=True)
        ]
        work.append("texts.jsonl", records)
        done.update((record["number"], record) for record in records)
    progress(f"{method.name}: writing", len(orders), len(orders))
    marked = method.name != UNMARKED
    return [
        WrittenText(
            length=sampling.max_new_tokens,
            number=order.number,
            marked=marked,
            source=prompt.source,
            prompt=prompt.text,
            text=done[order.number]["text"],
            token_ids=tuple(done[order.number]["token_ids"]),
            marked_tokens=None,
            seed=order.seed,
        )
        for order, prompt in zip(orders, prompts, strict=True)
    ]


UNMARKED = "unmarked"
"""Name of what the model writes by itself."""
