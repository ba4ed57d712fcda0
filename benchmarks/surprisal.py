"""How far marking carries a whole text away from the model: surprise beyond what the model expected.

    python -m benchmarks.surprisal --texts TEXTS.jsonl [--n 150] [--seed 0]

TEXTS.jsonl is an evaluation's (`countersign evaluate` keeps it in its .work folder, with the settings). A token's surprise is
-log p(token), and the model expects the entropy of p on average, p being the distribution that the token was drawn from, before the mark.
Text of the model's own exceeds it by 0 on average, whatever it is about, so that intervals are narrower than those of the perplexity of as
many texts. A mark is exactly unbiased for one token and random signs; within one text all tokens meet the same signs, and where
contexts share slots the earlier tokens tell of the signs that the later ones will meet. What that amounts to is the difference of marked
and unmarked.

Prints one JSON object: nats a token by part of the text, with 95 % intervals by bootstrap over prompts. p is computed with bfloat16
layers, whose rounding (.003 nats) marked and unmarked texts have in common.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.registry import load_torch_model
from watermark.evaluation.quality import MAX_LOGITS
from watermark.inference.torch_lm import TorchLM
from watermark.records import read_records
from watermark.statistics.intervals import bootstrap_mean

PARTS = ((0, 50), (50, 100), (100, 200), (0, 200))


@torch.inference_mode()
def excess(lm: TorchLM, prompt: str, written: list[int], temperature: float, top_k: int) -> np.ndarray:
    """Surprise minus entropy (nats) of each token; NaN where the token is not among the `top_k`: the engine that wrote rounds otherwise."""
    start = lm.tokenize(prompt).ids
    states = lm.model.base_model(input_ids=torch.tensor([start + written], device=lm.device), use_cache=False).last_hidden_state
    found = []
    rows = states[0, len(start) - 1 : -1].split(MAX_LOGITS // lm.vocab_size)
    for state, tokens in zip(rows, torch.tensor(written, device=lm.device).split(MAX_LOGITS // lm.vocab_size), strict=True):
        logits = lm.model.get_output_embeddings()(state).float() / temperature
        values, candidates = logits.topk(top_k, dim=-1)
        log_probs = values.log_softmax(dim=-1)
        drawn = candidates == tokens[:, None]
        surprise = torch.where(drawn.any(dim=-1), -(log_probs * drawn).sum(dim=-1), torch.nan)
        found.append(surprise + (log_probs.exp() * log_probs).sum(dim=-1))
    return torch.cat(found).cpu().numpy()


def part(rows: dict[int, np.ndarray], start: int, stop: int) -> dict[int, float]:
    """Mean over the tokens start … stop of each text that has them, by the number of its prompt."""
    cut = {number: row[start:stop] for number, row in rows.items()}
    return {number: float(np.nanmean(row)) for number, row in cut.items() if np.isfinite(row).any()}


def mean(values: list[float], numbers: list[int], seed: int) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "interval": list(bootstrap_mean(values, numbers, seed=seed))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--n", type=int, default=150, help="prompts, each with a marked and an unmarked text")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    settings = json.loads((options.texts.parent / "settings.json").read_text(encoding="utf-8"))
    records = list(read_records(options.texts))
    everywhere = sorted({r["number"] for r in records if r["marked"]} & {r["number"] for r in records if not r["marked"]})
    chosen = set(np.random.default_rng(options.seed).permutation(everywhere)[: options.n].tolist())
    lm = load_torch_model(settings["base_model"])
    lm.model.to(torch.bfloat16)
    found: dict[bool, dict[int, np.ndarray]] = {True: {}, False: {}}
    for record in (r for r in records if r["number"] in chosen):
        row = excess(lm, record["prompt"], record["token_ids"], settings["temperature"], settings["top_k"])
        found[record["marked"]][record["number"]] = row
        print(f"\r{sum(map(len, found.values()))} of {2 * len(chosen)} texts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    cells = []
    for start, stop in PARTS:
        marked, unmarked = (part(found[kind], start, stop) for kind in (True, False))
        both = sorted(marked.keys() & unmarked.keys())
        columns = {"marked": marked, "unmarked": unmarked, "difference": {i: marked[i] - unmarked[i] for i in both}}
        cells.append(
            {"tokens": [start, stop], "n": len(both)} | {k: mean([v[i] for i in both], both, options.seed) for k, v in columns.items()}
        )
    print(json.dumps({"checkpoint": settings["checkpoint"], "seed": options.seed, "nats_per_token": cells}, indent=2))


if __name__ == "__main__":
    main()
