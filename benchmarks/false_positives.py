"""How often unmarked text is called marked: many texts, each against many random keys.

    python -m benchmarks.false_positives TEXTS.jsonl[.gz] [--n 500] [--keys 100] [--tokens 100] [--seed 0]

TEXTS has a "text" per line (with "marked": true they are skipped, so an evaluation's texts.jsonl can be given). A verification
against one key tries all of its nonces and corrects for them. Prints one JSON object: observed rate at each nominal one, with a
95 % interval by bootstrap over texts (the keys tried on one text share its evidence), and a KS distance from uniform.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model
from watermark.codebook.codewords import Codebook
from watermark.codebook.keys import IssuerKey
from watermark.evaluation.records import first_tokens
from watermark.pipeline import WatermarkedModel
from watermark.records import read_records
from watermark.statistics.intervals import bootstrap_mean
from watermark.statistics.rademacher import RademacherTail

NOMINAL = (1e-1, 1e-2, 1e-3, 1e-4)
BATCH = 32


def read_texts(path: Path, n: int, seed: int) -> list[str]:
    records = list(read_records(path))
    texts = [record["text"] for record in records if not record.get("marked")]
    return [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))[:n]]


def p_values(model: WatermarkedModel, texts: list[str], keys: int, rng: np.random.Generator) -> np.ndarray:
    """Corrected p-values (texts, keys), fresh random keys for every text."""
    rows = []
    for start in range(0, len(texts), BATCH):
        for evidence in model.evidence(texts[start : start + BATCH]):
            ring = [IssuerKey(f"key-{i}", rng.bytes(32)) for i in range(keys)]
            book = Codebook(ring, model.config.nonce_bits, model.config.n)
            total = evidence.total()
            best = np.concatenate([signs.astype(np.float64) @ total for _, signs in book.chunks(4096)]).reshape(keys, -1).max(axis=1)
            p = RademacherTail(total).pvalue(best)
            rows.append(-np.expm1(2**model.config.nonce_bits * np.log1p(-np.minimum(p, 1 - 1e-16))))
        print(f"{min(start + BATCH, len(texts))} of {len(texts)} texts", file=sys.stderr)
    return np.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = WatermarkedModel.load(load_base_model(DEFAULT_BASE_MODEL), default_checkpoint(DEFAULT_BASE_MODEL))
    cut = [first_tokens(model.lm, text, options.tokens) for text in read_texts(options.texts, options.n, options.seed)]
    texts = [text for text in cut if text is not None]
    rng = np.random.default_rng([options.seed, 1])
    p = p_values(model, texts, options.keys, rng)
    rates = {}
    for nominal in NOMINAL:
        per_text = (p < nominal).mean(axis=1)
        interval = bootstrap_mean(per_text, range(len(per_text)), seed=options.seed)
        rates[f"{nominal:g}"] = {"observed": float(per_text.mean()), "interval": interval}
    result = {
        "texts": len(texts),
        "source": options.texts.name,
        "tokens": options.tokens,
        "keys_per_text": options.keys,
        "verifications": int(p.size),
        "seed": options.seed,
        "smallest_p": float(p.min()),
        "ks_distance": float(stats.kstest(p.ravel(), "uniform").statistic),
        "rates": rates,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
