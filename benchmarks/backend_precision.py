"""What the fast backend costs in precision, against the model itself in float32.

    python -m benchmarks.backend_precision [--texts 60] [--tokens 150] [--human PASSAGES.jsonl.gz] [--out FILE]

Along texts that each backend reads token by token: mean divergence KL(float32 ‖ fast) of the next token's distribution in nats, and
perplexity as a ratio, with 95 % intervals over texts. Then the mark: texts written by one backend, read by both. Texts are marked ones
that the fast backend writes, and with `--human` passages that people wrote (a `text` a line). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model, load_torch_model
from watermark.base_model import FrozenLM
from watermark.codebook.book import codebook
from watermark.codebook.keys import IssuerKey
from watermark.inference.torch_lm import TorchLM
from watermark.pipeline import WatermarkedModel
from watermark.records import read_records
from watermark.sampling.requests import GenerationRequest, SamplingSettings

KEY = IssuerKey("acme", b"a" * 32)
PROMPTS = ["The harbour was quiet that morning, and", "In a study of how people sleep,", "Dear reader, this week", "To install it, first"]
BATCH = 12
RESAMPLES = 2000


@torch.inference_mode()
def divergences(reference: TorchLM, fast: FrozenLM, texts: list[str], tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Per text: mean divergence, and mean loss of the fast backend beyond the reference's, in nats per token. Texts shorter than `tokens`
    are left out."""
    rows = [ids for ids in (reference.tokenize(text).ids[: tokens + 1] for text in texts) if len(ids) == tokens + 1]
    found = []
    for start in range(0, len(rows), BATCH):
        batch = torch.tensor(rows[start : start + BATCH])
        running = fast.running((0,))
        coming = running.begin([row[:1] for row in batch.tolist()])
        while not coming.advance(hurry=True):
            pass
        running.join(coming)
        steps = [torch.log_softmax(running.step(batch[:, t])[0], dim=-1).half() for t in range(tokens)]
        for i, row in enumerate(batch):
            wanted = torch.log_softmax(reference.model(input_ids=row[None, :-1]).logits[0], dim=-1)
            got = torch.stack([step[i] for step in steps]).float()
            divergence = (wanted.exp() * (wanted - got)).sum(dim=-1).mean()
            loss = (wanted - got).gather(1, row[1:, None]).mean()
            found.append((float(divergence), float(loss)))
    return tuple(np.array(found).T)  # type: ignore[return-value]


def mean_with_interval(values: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Mean and 95 % bootstrap interval over texts."""
    rng = np.random.default_rng(seed)
    means = rng.choice(values, size=(RESAMPLES, len(values))).mean(axis=1)
    return {"mean": float(values.mean()), "interval": [float(q) for q in np.quantile(means, [0.025, 0.975])]}


def distributions(reference: TorchLM, fast: FrozenLM, texts: list[str], tokens: int) -> dict[str, Any]:
    divergence, loss = divergences(reference, fast, texts, tokens)
    ratio = mean_with_interval(loss)
    return {
        "texts": len(divergence),
        "divergence_nats": mean_with_interval(divergence),
        "perplexity_ratio": {"mean": float(np.exp(ratio["mean"])), "interval": [float(np.exp(x)) for x in ratio["interval"]]},
    }


def marks(models: dict[str, WatermarkedModel], written: dict[str, list[str]]) -> dict[str, Any]:
    """z of the mark in texts of each writer, as each backend reads them, and how alike the two readings are."""
    found: dict[str, Any] = {}
    for writer, texts in written.items():
        totals = {name: np.stack([e.total() for e in model.evidence(texts)]) for name, model in models.items()}
        norms = {name: np.linalg.norm(total, axis=1) for name, total in totals.items()}
        config = next(iter(models.values())).config
        book = codebook((KEY,), config.nonce_bits, config.n)
        a, b = totals.values()
        cosines = (a * b).sum(axis=1) / np.prod(list(norms.values()), axis=0)
        z = {name: float((book.best(total).statistics / norms[name]).mean()) for name, total in totals.items()}
        found[writer] = {
            "texts": len(texts),
            "mean_z_read_by": z,
            "cosine": {"mean": float(cosines.mean()), "lowest": float(cosines.min())},
        }
    return found


def written(model: WatermarkedModel, texts: int, tokens: int) -> list[str]:
    sampling = [SamplingSettings(max_new_tokens=tokens, min_new_tokens=tokens, seed=seed) for seed in range(texts)]
    return [r.text for r in model.generate([GenerationRequest(PROMPTS[i % len(PROMPTS)], each, KEY) for i, each in enumerate(sampling)])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--human", type=Path, metavar="FILE", help="passages that people wrote; as many as marked texts are read")
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    reference, fast = load_torch_model(DEFAULT_BASE_MODEL), load_base_model(DEFAULT_BASE_MODEL, backend="openvino")
    checkpoint = default_checkpoint(DEFAULT_BASE_MODEL)
    models = {"openvino": WatermarkedModel.load(fast, checkpoint), "float32": WatermarkedModel.load(reference, checkpoint)}
    texts = {name: written(model, options.texts, options.tokens) for name, model in models.items()}
    report: dict[str, Any] = {
        "parameters": {"texts": options.texts, "tokens": options.tokens, "human": options.human.name if options.human else None},
        "along_marked_text": distributions(reference, fast, texts["openvino"], options.tokens // 2),
        "marks_written_by": marks(models, texts),
    }
    if options.human:
        passages = [str(record["text"]) for record in itertools.islice(read_records(options.human), options.texts)]
        report["along_human_text"] = distributions(reference, fast, passages, options.tokens)
    found = json.dumps(report, indent=2)
    print(found)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(found + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
