"""Messages: written with the mark, and read back from the text as the verdict states them. Only our methods carry one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from watermark.benchmark.methods import Order
from watermark.benchmark.ours import VERIFIED_AT_ONCE, Ours
from watermark.benchmark.scoring import Cell
from watermark.codebook.book import codebook
from watermark.codebook.keys import IssuerKey
from watermark.evaluation.generation import Progress, WorkFolder, text_seed
from watermark.evaluation.records import Prompt
from watermark.extraction.extractor import Evidence
from watermark.sampling.requests import SamplingSettings
from watermark.statistics.intervals import bootstrap_mean, clopper_pearson
from watermark.statistics.verdict import Verdict

BITS = 8
SEEDS = 2**21
"""Where the numbers of these texts' seeds begin."""


def key(seed: int, number: int) -> IssuerKey:
    """It follows from the seed, so it protects nothing."""
    return IssuerKey(f"payload-{number}", hashlib.sha256(f"countersign benchmark payload {seed} {number}".encode()).digest(), BITS)


def message(seed: int, number: int) -> int:
    return hashlib.sha256(f"countersign benchmark message {seed} {number}".encode()).digest()[0]


def write_messages(
    method: Ours,
    prompts: Sequence[Prompt],
    sampling: SamplingSettings,
    work: WorkFolder,
    *,
    seed: int,
    batch_size: int,
    progress: Progress,
) -> list[list[int]]:
    """Token ids of a text with a message for each prompt."""
    done = {record["number"]: record["token_ids"] for record in work.read("messages.jsonl")}
    missing = [i for i in range(len(prompts)) if i not in done]
    for first in range(0, len(missing), batch_size):
        progress(f"{method.name}: writing messages", len(prompts) - len(missing) + first, len(prompts))
        batch = missing[first : first + batch_size]
        orders = [Order(i, prompts[i].text, text_seed(seed, SEEDS + i)) for i in batch]
        keys = [key(seed, i % len(method.keys)) for i in batch]
        written = method.write_with(keys, orders, sampling, [message(seed, i) for i in batch])
        work.append("messages.jsonl", ({"number": i, "token_ids": ids} for i, ids in zip(batch, written, strict=True)))
        done.update(zip(batch, written, strict=True))
    progress(f"{method.name}: writing messages", len(prompts), len(prompts))
    return [done[i] for i in range(len(prompts))]


def payload_cells(
    method: Ours, texts: Mapping[Cell, Sequence[str]], work: WorkFolder, *, seed: int, progress: Progress
) -> list[dict[str, Any]]:
    """What the verdicts state of the messages, and what the likeliest one would be.

    A bit that a verdict does not state counts as half right: it is a guess. The likeliest message abstains from nothing; its bit accuracy
    is the one that methods without a verdict are published with.
    """
    done = {(record["cell"], record["number"]): record for record in work.read("messages-read.jsonl") if "likeliest" in record}
    total = sum(map(len, texts.values()))
    for cell, of_cell in texts.items():
        missing = [i for i in range(len(of_cell)) if (str(cell), i) not in done]
        for first in range(0, len(missing), VERIFIED_AT_ONCE):
            batch = missing[first : first + VERIFIED_AT_ONCE]
            evidence = method.model.evidence([of_cell[i] for i in batch])
            records = []
            for i, one in zip(batch, evidence, strict=True):
                of_text, sent = key(seed, i % len(method.keys)), message(seed, i)
                verdict = method.model.verdicts([one], [of_text])[0]
                likeliest = BITS - (_likeliest(method, one, of_text) ^ sent).bit_count()
                records.append({"cell": str(cell), "number": i, **_right(verdict, sent), "likeliest": likeliest / BITS})
            work.append("messages-read.jsonl", records)
            done.update(((record["cell"], record["number"]), record) for record in records)
            progress(f"{method.name}: reading messages", len(done), total)
    found = []
    for cell, of_cell in texts.items():
        records = [done[str(cell), i] for i in range(len(of_cell))]
        exact, wrong = (sum(record[name] for record in records) for name in ("exact", "wrong"))
        accuracy, likeliest = ([record[name] for record in records] for name in ("bit_accuracy", "likeliest"))
        found.append(
            {
                "attack": cell.attack,
                "length": cell.length,
                "bits": BITS,
                "n": len(records),
                "exact": exact / len(records),
                "exact_interval": clopper_pearson(exact, len(records)),
                "wrong": wrong / len(records),
                "bit_accuracy": sum(accuracy) / len(records),
                "bit_accuracy_interval": bootstrap_mean(accuracy, range(len(accuracy)), seed=seed),
                "likeliest": sum(likeliest) / len(records),
                "likeliest_interval": bootstrap_mean(likeliest, range(len(likeliest)), seed=seed),
            }
        )
    return found


def _likeliest(method: Ours, evidence: Evidence, of_text: IssuerKey) -> int:
    """The message of the codeword that fits the whole text best, whether or not it is sure."""
    config = method.model.config
    return codebook((of_text,), config.nonce_bits, config.n).best(evidence.total()[None]).candidates[0].payload


def _right(verdict: Verdict, sent: int) -> dict[str, Any]:
    stated = None if verdict.payload is None else int(verdict.payload, 16)
    bits = verdict.payload_bits or ()
    wanted = [sent >> (BITS - 1 - place) & 1 for place in range(BITS)]
    right = [0.5 if bit.value is None else float(bit.value == want) for bit, want in zip(bits, wanted, strict=False)]
    return {"exact": stated == sent, "wrong": stated not in (None, sent), "bit_accuracy": sum(right) / BITS if bits else 0.5}
