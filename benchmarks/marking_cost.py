"""CPU time of marked against unmarked generation in the same decoding loop, in paired runs.

    python -m benchmarks.marking_cost [--batch 16] [--tokens 100] [--pairs 5]

Prints one JSON object. The loop is what `generate` runs; `self_check` is the verification of the finished texts on top of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model
from watermark.codebook.codewords import codeword
from watermark.codebook.keys import IssuerKey
from watermark.pipeline import WatermarkedModel
from watermark.sampling.decode import Row, decode
from watermark.sampling.requests import SamplingSettings

PROMPT = "The committee met on Tuesday to discuss the plan, and"


def run(model: WatermarkedModel, batch: int, tokens: int, strength: float) -> tuple[float, list[str]]:
    """CPU seconds of one batch, and its texts."""
    ids = model.lm.tokenize(PROMPT).ids
    sampling = SamplingSettings(max_new_tokens=tokens, min_new_tokens=tokens)
    rows = []
    for i in range(batch):
        signs = codeword(IssuerKey(f"issuer-{i}", bytes([i + 1]) * 32), 0, 0, model.config.nonce_bits, model.config.n)
        rows.append(Row(ids, sampling, torch.from_numpy(np.random.default_rng(i).random(tokens)), torch.from_numpy(signs), strength))
    start = time.process_time()
    decoded = decode(model.lm, model.pair.embedder, rows, model.config.query_layers)
    return time.process_time() - start, [model.lm.decode(row.ids) for row in decoded]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    model = WatermarkedModel.load(load_base_model(DEFAULT_BASE_MODEL), default_checkpoint(DEFAULT_BASE_MODEL))
    run(model, options.batch, 10, 1.0)  # warm up
    ratios, checks, seconds = [], [], []
    for pair in range(options.pairs):
        order = (0.0, 1.0) if pair % 2 else (1.0, 0.0)  # what drifts during the run hits both alike
        times = {strength: run(model, options.batch, options.tokens, strength) for strength in order}
        start = time.process_time()
        model.evidence(times[1.0][1])
        checks.append((time.process_time() - start) / times[0.0][0])
        ratios.append(times[1.0][0] / times[0.0][0])
        seconds.append(times[0.0][0])
    result = {
        "batch": options.batch,
        "tokens": options.tokens,
        "pairs": options.pairs,
        "threads": torch.get_num_threads(),
        "marked_over_unmarked": {"median": statistics.median(ratios), "all": ratios},
        "self_check_over_unmarked": {"median": statistics.median(checks), "all": checks},
        "unmarked_cpu_seconds": {"median": statistics.median(seconds), "all": seconds},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
