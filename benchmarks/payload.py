"""Whole messages read back from marked text, by payload size, length and attack.

    python -m benchmarks.payload --prompts FILE… --work FOLDER [--n 200] [--seed 0] [--bits 8,16,32,64]

Writes n texts with random payloads for each size (kept in FOLDER, so that a broken-off run goes on), verifies them from the text
alone and prints one JSON object. Two ways to count: `recovered` is decoding alone, the likeliest message of the issuer, as other
systems report it (with its bit accuracy); `stated` is what the verdict says at a false-positive rate of 1 in 1,000 and a confidence of
95 %, and `wrong` the share of texts for which it states another message. The rest are erasures or not detected. `confidence`
compares the confidence given with the share that was right.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model
from watermark.checkpoint_folder import weights_digest
from watermark.codebook.book import codebook
from watermark.codebook.keys import IssuerKey
from watermark.evaluation.attacks import Materials, attack
from watermark.evaluation.attacks.words import vocabulary
from watermark.evaluation.records import draw_prompts, first_tokens, last_tokens, read_prompts
from watermark.pipeline import WatermarkedModel
from watermark.records import read_records
from watermark.sampling.requests import GenerationRequest, SamplingSettings
from watermark.statistics.intervals import clopper_pearson
from watermark.statistics.verdict import Verdict

LENGTHS = {8: 150, 16: 100, 32: 200, 64: 200}
"""Tokens written for each payload size."""
CELLS = [
    *((8, 150, "clean"), (8, 100, "clean"), (8, 150, "delete-10")),
    *((16, 50, "clean"), (16, 100, "clean"), (16, 100, "delete-10")),
    *((32, 100, "clean"), (32, 200, "clean"), (32, 200, "delete-10"), (32, 200, "substitute-10"), (32, 200, "delete-30")),
    *((64, 200, "clean"), (64, 200, "delete-10")),
]
KEYS = 10
BATCH = 50
BINS = (0.0, 0.5, 0.8, 0.95, 0.99, 1.0)


def keys(bits: int, seed: int) -> list[IssuerKey]:
    """They follow from the seed, so they protect nothing."""
    return [
        IssuerKey(f"payload-{i}", hashlib.sha256(f"countersign payload key {seed} {bits} {i}".encode()).digest(), bits) for i in range(KEYS)
    ]


def written(model: WatermarkedModel, prompts: Sequence[str], bits: int, path: Path, seed: int) -> Iterator[tuple[int, int, str]]:
    """(number, payload, text) for each prompt, from the file or freshly written."""
    ring = keys(bits, seed)
    payloads = [
        int.from_bytes(hashlib.sha256(f"{seed} {bits} {i}".encode()).digest()[:8], "big") >> (64 - bits) for i in range(len(prompts))
    ]
    texts = {record["number"]: record["text"] for record in read_records(path)} if path.exists() else {}
    missing = [i for i in range(len(prompts)) if i not in texts]
    sampling = SamplingSettings(max_new_tokens=LENGTHS[bits], min_new_tokens=LENGTHS[bits])
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        requests = [GenerationRequest(prompts[i], replace(sampling, seed=i), ring[i % KEYS], payloads[i]) for i in batch]
        results = model.generate(requests)
        with path.open("a", encoding="utf-8") as file:
            for i, result in zip(batch, results, strict=True):
                file.write(json.dumps({"number": i, "text": result.text}) + "\n")
                texts[i] = result.text
        print(f"{bits} bits: {min(start + BATCH, len(missing))} of {len(missing)} texts written", file=sys.stderr)
    yield from ((i, payloads[i], texts[i]) for i in range(len(prompts)))


def cell(
    model: WatermarkedModel, texts: Sequence[tuple[int, int, str]], bits: int, length: int, edit: str, materials: Materials, seed: int
) -> dict:
    """Recovery of one payload size at one length after one edit."""
    change, ring = attack(edit, materials), keys(bits, seed)
    found: list[tuple[int, int, Verdict]] = []
    for position, key in enumerate(ring):
        own = [(number, payload, text) for number, payload, text in texts if number % KEYS == position]
        edited = [
            change(
                first_tokens(model.lm, text, length) or text, np.random.default_rng([seed, bits, length, number, zlib.crc32(edit.encode())])
            )
            for number, _, text in own
        ]
        evidence = model.evidence(edited)
        book = codebook((key,), model.config.nonce_bits, model.config.n)
        likeliest = [c.payload for c in book.best(np.stack([e.total() for e in evidence])).candidates]
        found += zip([payload for _, payload, _ in own], likeliest, model.verdicts(evidence, [key]), strict=True)
    sent, read = [payload for payload, _, _ in found], [payload for _, payload, _ in found]
    recovered = sum(s == r for s, r in zip(sent, read, strict=True))
    stated = [(s, int(v.payload, 16)) for s, _, v in found if v.payload is not None]
    return {
        **{"bits": bits, "tokens": length, "attack": edit, "n": len(found)},
        **{"recovered": recovered / len(found), "interval": clopper_pearson(recovered, len(found))},
        "bit_accuracy": float(np.mean([1 - (s ^ r).bit_count() / bits for s, r in zip(sent, read, strict=True)])),
        "stated": sum(s == r for s, r in stated) / len(found),
        "wrong": sum(s != r for s, r in stated) / len(found),
        "detected": sum(v.verdict == "marked" for _, _, v in found) / len(found),
        "likeliest_right": [[v.payload_confidence, s == r] for s, r, v in found if v.payload_bits],
    }


def confidence_table(cells: Sequence[dict]) -> list[dict]:
    """Mean confidence and share right, by confidence."""
    pairs = [(c, right) for row in cells for c, right in row.pop("likeliest_right")]
    table = []
    for low, high in itertools.pairwise(BINS):
        inside = [(c, right) for c, right in pairs if low <= c < high or (high == 1.0 and c == 1.0)]
        if inside:
            right = sum(r for _, r in inside)
            interval = clopper_pearson(right, len(inside))
            mean = float(np.mean([c for c, _ in inside]))
            table.append({"from": low, "to": high, "texts": len(inside), "mean": mean, "right": right / len(inside), "interval": interval})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, action="append", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bits", default="8,16,32,64")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    model = WatermarkedModel.load(load_base_model(DEFAULT_BASE_MODEL), default_checkpoint(DEFAULT_BASE_MODEL))
    drawn = draw_prompts([read_prompts(path) for path in options.prompts], options.n, options.seed)
    prompts = [last_tokens(model.lm, prompt.text) for prompt in drawn]
    words = vocabulary([prompt.human for prompt in drawn if prompt.human])
    materials = Materials(words, [prompt.human for prompt in drawn if prompt.human])
    cells = []
    for bits in map(int, options.bits.split(",")):
        texts = list(written(model, prompts, bits, options.work / f"payload-{bits}.jsonl", options.seed))
        for size, length, edit in CELLS:
            if size == bits:
                cells.append(cell(model, texts, bits, length, edit, materials, options.seed))
                print(json.dumps({k: v for k, v in cells[-1].items() if k != "likeliest_right"}), file=sys.stderr)
    result = {
        "weights_sha256": weights_digest(default_checkpoint(DEFAULT_BASE_MODEL)),
        "sources": [path.name for path in options.prompts],
        "seed": options.seed,
        "temperature": 1.0,
        "top_k": 64,
    }
    print(json.dumps({**result, "confidence": confidence_table(cells), "cells": cells}, indent=2))


if __name__ == "__main__":
    main()
