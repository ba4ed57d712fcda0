"""How reading with bfloat16 products compares with float32: evidence, marks found, CPU time.

    python -m benchmarks.reading_precision [--texts 48] [--tokens 100] [--human PASSAGES.jsonl.gz]

Writes texts with the default model, reads each both ways and prints one JSON object. `--human` adds unmarked passages (a `text` a line).
On a CPU without bfloat16 instructions both ways are the same, and `pays_off` says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model
from watermark.codebook.book import codebook
from watermark.codebook.keys import IssuerKey
from watermark.half_precision import pays_off
from watermark.pipeline import WatermarkedModel
from watermark.records import read_records
from watermark.sampling.requests import GenerationRequest, SamplingSettings

KEY = IssuerKey("acme", b"a" * 32)
PROMPTS = ["The harbour was quiet that morning, and", "In a study of how people sleep,", "Dear reader, this week", "To install it, first"]
CHARACTERS = 900


def compared(model: WatermarkedModel, texts: list[str]) -> dict[str, Any]:
    """Both readings of `texts`."""
    book = codebook((KEY,), model.config.nonce_bits, model.config.n)
    totals, seconds = {}, {}
    for name, quick in (("float32", False), ("quick", pays_off())):
        with patch("watermark.base_model.pays_off", return_value=quick):
            model.evidence(texts[:1])  # what is made at the first use is made
            began = time.process_time()
            totals[name] = np.stack([evidence.total() for evidence in model.evidence(texts)])
            seconds[name] = time.process_time() - began
    norms = {name: np.linalg.norm(total, axis=1) for name, total in totals.items()}
    cosines = (totals["float32"] * totals["quick"]).sum(axis=1) / (norms["float32"] * norms["quick"])
    z = {name: book.best(total).statistics / norms[name] for name, total in totals.items()}
    return {
        "texts": len(texts),
        "cosine": {"mean": float(cosines.mean()), "lowest": float(cosines.min())},
        "mean_z": {name: float(values.mean()) for name, values in z.items()},
        "cpu_time_over_float32": seconds["quick"] / seconds["float32"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--human", type=Path, metavar="FILE", help="unmarked passages; as many as marked texts are read")
    options = parser.parse_args()
    model = WatermarkedModel.load(load_base_model(DEFAULT_BASE_MODEL), default_checkpoint(DEFAULT_BASE_MODEL))
    sampling = [SamplingSettings(max_new_tokens=options.tokens, min_new_tokens=options.tokens, seed=seed) for seed in range(options.texts)]
    requests = [GenerationRequest(PROMPTS[i % len(PROMPTS)], each, KEY) for i, each in enumerate(sampling)]
    found: dict[str, Any] = {"pays_off": pays_off(), "marked": compared(model, [result.text for result in model.generate(requests)])}
    if options.human:
        passages = itertools.islice(read_records(options.human), options.texts)
        found["human"] = compared(model, [str(record["text"])[:CHARACTERS] for record in passages])
    print(json.dumps({"parameters": {"texts": options.texts, "tokens": options.tokens}, **found}, indent=2))


if __name__ == "__main__":
    main()
