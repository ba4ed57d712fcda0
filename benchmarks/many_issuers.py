"""One verification against many registered issuers: time, memory and whether the right one is named.

    python -m benchmarks.many_issuers [--issuers 10000] [--texts 16] [--seed 0]

Marks texts of 200 tokens for some of the issuers and verifies each against all of them at once, the p-value corrected for all
issuers x nonces. Prints one JSON object: seconds to expand the book (once per set of keys), per verification after that, and the same
against a single issuer in the same run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time

import numpy as np

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model
from watermark.checkpoint_folder import weights_digest
from watermark.codebook.book import codebook
from watermark.codebook.keys import IssuerKey
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import GenerationRequest, SamplingSettings

PROMPTS = (
    "The harbour was quiet that morning, and",
    "In the second half of the year, the company",
    "When the committee met again in spring, it",
    "The recipe is simple, but it takes",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--issuers", type=int, default=10_000)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = WatermarkedModel.load(load_base_model(DEFAULT_BASE_MODEL), default_checkpoint(DEFAULT_BASE_MODEL))
    keys = tuple(
        IssuerKey(f"issuer-{i}", hashlib.sha256(f"countersign issuer {options.seed} {i}".encode()).digest()) for i in range(options.issuers)
    )
    own = [keys[int(i)] for i in np.random.default_rng(options.seed).integers(options.issuers, size=options.texts)]
    sampling = [SamplingSettings(max_new_tokens=200, min_new_tokens=200, seed=options.seed + i) for i in range(options.texts)]
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(options.texts)]
    texts = [r.text for r in model.generate([GenerationRequest(*item) for item in zip(prompts, sampling, own, strict=True)])]
    evidence = model.evidence(texts)

    started = time.perf_counter()
    codebook(keys, model.config.nonce_bits, model.config.n)
    expanding = time.perf_counter() - started
    many, named = [], 0
    for e, key in zip(evidence, own, strict=True):
        started = time.perf_counter()
        verdict = model.verdicts([e], keys)[0]
        many.append(time.perf_counter() - started)
        named += verdict.issuer == key.name
    one = []
    for e, key in zip(evidence, own, strict=True):
        model.verdicts([e], [key])  # its book is expanded
        started = time.perf_counter()
        model.verdicts([e], [key])
        one.append(time.perf_counter() - started)
    result = {
        "weights_sha256": weights_digest(default_checkpoint(DEFAULT_BASE_MODEL)),
        **{"issuers": options.issuers, "nonces": 2**model.config.nonce_bits, "texts": options.texts, "seed": options.seed},
        **{"named_rightly": named, "expanding_seconds": expanding},
        **{"seconds_per_text": float(np.median(many)), "seconds_per_text_one_issuer": float(np.median(one))},
        "ratio": float(np.median(many) / np.median(one)),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
