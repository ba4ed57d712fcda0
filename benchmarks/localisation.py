"""Marked passages in long human texts: how many are found, how well they are placed, and false alarms of human text alone.

    python -m benchmarks.localisation --marked TEXTS.jsonl --human FILE [--n 100] [--seed 0]

TEXTS.jsonl is an evaluation's (marked texts of 200 tokens, their keys follow from its seed). A passage of them is put at a random
place into human text (passages of FILE one after the other), the whole is read as any text is, and verified against its one key.
Found means: the verdict is marked, and a segment overlaps the passage. IoU: characters in both over characters in either.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model
from watermark.checkpoint_folder import weights_digest
from watermark.codebook.keys import IssuerKey
from watermark.evaluation.generation import KEYS, evaluation_keys
from watermark.evaluation.records import first_tokens
from watermark.pipeline import WatermarkedModel
from watermark.records import read_records
from watermark.statistics.intervals import clopper_pearson
from watermark.statistics.verdict import Verdict

CASES = ((100, 400), (200, 800), (200, 10_000))
"""Marked tokens, tokens in all."""
ALONE = (400, 800, 10_000)
FEW = 20
"""Texts of 10,000 tokens: each takes ten seconds to read."""
BATCH = 8


class Hosts:
    """Human text of any length, passages of it one after the other, none used twice."""

    def __init__(self, model: WatermarkedModel, path: Path, seed: int) -> None:
        texts = [record["text"].strip() for record in read_records(path)]
        order = np.random.default_rng([seed, 3]).permutation(len(texts))
        self._model, self._next = model, iter([texts[int(i)] for i in order])

    def text(self, tokens: int) -> str:
        parts: list[str] = []
        count = 0
        while count < tokens:
            parts.append(next(self._next))
            count += len(self._model.lm.tokenize(parts[-1]).ids)
        whole = "\n\n".join(parts)
        return first_tokens(self._model.lm, whole, tokens) or whole


def mixed(model: WatermarkedModel, hosts: Hosts, marked: str, inside: int, tokens: int, rng: np.random.Generator) -> tuple[str, int, int]:
    """(text, start, end) with the first `inside` tokens of `marked` at a random word boundary; offsets in characters."""
    passage = first_tokens(model.lm, marked, inside) or marked
    host = hosts.text(tokens - inside)
    spaces = [i for i, c in enumerate(host) if c == " "]
    place = spaces[int(rng.integers(len(spaces)))] + 1
    return host[:place] + passage + " " + host[place:], place, place + len(passage)


def overlap(verdict: Verdict, start: int, end: int) -> float:
    """Intersection over union of all segments and the passage."""
    inside = sum(max(0, min(s.end, end) - max(s.start, start)) for s in verdict.segments)
    return inside / (sum(s.end - s.start for s in verdict.segments) + end - start - inside)


def verified(model: WatermarkedModel, texts: list[str], keys: list[IssuerKey], what: str) -> Iterator[tuple[int, Verdict]]:
    started = time.monotonic()
    for i, (text, key) in enumerate(zip(texts, keys, strict=True)):
        yield i, model.verify([text], [key])[0]
        if i % BATCH == BATCH - 1:
            print(f"{what}: {i + 1} of {len(texts)}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--marked", type=Path, required=True)
    parser.add_argument("--human", type=Path, required=True)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = WatermarkedModel.load(load_base_model(DEFAULT_BASE_MODEL), default_checkpoint(DEFAULT_BASE_MODEL))
    marked = [r for r in read_records(options.marked) if r["marked"]]
    ring, hosts, rng = evaluation_keys(options.seed), Hosts(model, options.human, options.seed), np.random.default_rng(options.seed)
    cases = []
    for inside, tokens in CASES:
        count = min(options.n if tokens < 5000 else FEW, len(marked))
        made = [mixed(model, hosts, record["text"], inside, tokens, rng) for record in marked[:count]]
        keys = [ring[record["number"] % KEYS] for record in marked[:count]]
        found, ious = 0, []
        for i, verdict in verified(model, [text for text, _, _ in made], keys, f"{inside} in {tokens}"):
            iou = overlap(verdict, *made[i][1:]) if verdict.segments else 0.0
            found += iou > 0
            ious.append(iou)
        hit = [iou for iou in ious if iou > 0]
        row = {"marked_tokens": inside, "tokens": tokens, "n": count, "found": found / count, "interval": clopper_pearson(found, count)}
        cases.append({**row, "median_iou": float(np.median(hit)), "iou_quartiles": np.quantile(hit, [0.25, 0.75]).tolist()})
        print(json.dumps(cases[-1]), file=sys.stderr)
    alone = []
    for tokens in ALONE:
        count = 2 * options.n if tokens < 5000 else FEW // 2
        texts = [hosts.text(tokens) for _ in range(count)]
        below = {rate: 0 for rate in (1e-1, 1e-2, 1e-3)}
        tried = 0
        for evidence in (model.evidence([text])[0] for text in texts):
            # Many keys per text: reading is what costs, and each key is another chance for a false alarm.
            for key in ring:
                p = model.verdicts([evidence], [key])[0].p_value
                tried += 1
                for rate in below:
                    below[rate] += p < rate
        alone.append({"tokens": tokens, "texts": count, "verifications": tried, "below": {f"{r:g}": k for r, k in below.items()}})
        print(json.dumps(alone[-1]), file=sys.stderr)
    print(
        json.dumps(
            {
                "weights_sha256": weights_digest(default_checkpoint(DEFAULT_BASE_MODEL)),
                "seed": options.seed,
                "marked": options.marked.name,
                "human": options.human.name,
                "cases": cases,
                "alone": alone,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
