"""How often unmarked text is called marked: many texts of several kinds and lengths, each against many fixed keys.

    python -m benchmarks.false_positives --texts KIND=FILE… --work FOLDER [--keys 64] [--seed 0]

FILE holds JSON lines with a "text", and an "id" where several come from one document; records with "marked": true are skipped, so
an evaluation's texts.jsonl can be given. Texts that the checkpoint's calibration has seen are left out. The kind `repetitive` is
made from the texts of the first one: a sentence fifty times, lists and tables of few words. Evidence is kept in FOLDER.

Keys are drawn as an issuer's are, refused and drawn again where the health check says so, and then stay fixed over all texts: a
rate over random keys would hide an unlucky one. Each verification tries all nonces of one key and corrects for them; it is the test
of the whole text. The report has the observed rate at every nominal one, for the exact p-value and for the reported (calibrated)
one, with a 95 % interval by bootstrap over documents, and the worst single key.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model
from watermark.calibration.file import Calibration, fingerprint, load_calibration
from watermark.calibration.null import Lean
from watermark.calibration.prefixes import PrefixEvidence, prefix_evidence
from watermark.checkpoint_folder import read_config, weights_digest
from watermark.codebook.codewords import masks, unpack_signs
from watermark.codebook.keys import IssuerKey
from watermark.evaluation.records import first_tokens
from watermark.extraction.extractor import Evidence
from watermark.pipeline import WatermarkedModel
from watermark.records import read_records
from watermark.statistics.intervals import bootstrap_mean, clopper_pearson
from watermark.statistics.rademacher import RademacherTail

NOMINAL = (1e-1, 1e-2, 1e-3, 1e-4)
LENGTHS = (16, 25, 32, 50, 64, 100, 128, 200)
TESTED = (25, 50, 100, 200)
REPETITIVE = 240


@dataclass(frozen=True)
class Texts:
    kind: str
    texts: list[str]
    documents: list[str]


def read_kind(kind: str, path: Path) -> Texts:
    records = [record for record in read_records(path) if not record.get("marked")]
    return Texts(kind, [r["text"] for r in records], [str(r.get("id", i)) for i, r in enumerate(records)])


def repetitive(texts: list[str]) -> Texts:
    """Text as tables, lists and loops make it: the hardest for a test that counts on tokens being independent."""
    made = []
    for i, text in enumerate(texts[:REPETITIVE]):
        words = text.split()
        sentence = " ".join(words[:12])
        made.append(
            [
                " ".join([sentence + "."] * 50),
                "\n".join(f"{n}. {words[n % 9]} {words[(n + 1) % 9]}" for n in range(1, 60)),
                "\n".join("| " + " | ".join([words[0], words[1], str(n), words[2]]) + " |" for n in range(1, 40)),
            ][i % 3]
        )
    return Texts("repetitive", made, [str(i) for i in range(len(made))])


@cache
def _model() -> WatermarkedModel:
    return WatermarkedModel.load(load_base_model(DEFAULT_BASE_MODEL), default_checkpoint(DEFAULT_BASE_MODEL))


def _read(texts: Sequence[str]) -> list[Evidence]:
    model = _model()
    return model.evidence([first_tokens(model.lm, text, LENGTHS[-1]) or text for text in texts])


def sound_keys(calibration: Calibration, count: int, nonce_bits: int, rng: np.random.Generator) -> tuple[list[IssuerKey], int]:
    """Keys that pass the health check, and how many were refused."""
    keys: list[IssuerKey] = []
    refused = 0
    while len(keys) < count:
        key = IssuerKey(f"key-{len(keys)}", rng.bytes(32))
        if calibration.health(key, nonce_bits).ok:
            keys.append(key)
        else:
            refused += 1
    return keys, refused


def p_values(evidence: np.ndarray, signs: np.ndarray, lean: Lean, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact and reported p-values (texts, keys): evidence (texts, n), signs (keys, nonces, n)."""
    exact, reported = np.ones((len(evidence), len(signs))), np.ones((len(evidence), len(signs)))
    flat = signs.reshape(-1, signs.shape[-1]).astype(np.float64)
    for i, total in enumerate(evidence.astype(np.float64)):
        statistics = (flat @ total).reshape(signs.shape[:2])
        best = statistics.argmax(axis=1)
        chosen = np.take_along_axis(statistics, best[:, None], axis=1)[:, 0]
        norm = np.linalg.norm(total)
        shifts = lean.shift(flat[np.arange(len(signs)) * signs.shape[1] + best], total[None] / norm, tokens)[0]
        lowered = chosen - shifts * norm
        tail = RademacherTail(total)
        for found, statistic in ((exact, chosen), (reported, lowered)):
            # Šidák over the nonces, as `best_of` has it; one below 1, since log1p(-1) is no number.
            found[i] = -np.expm1(signs.shape[1] * np.log1p(-np.minimum(tail.pvalue(statistic), 1 - 1e-16)))
    return exact, reported


def rates(p: np.ndarray, documents: list[str], seed: int) -> dict[str, dict]:
    """Observed rate at each nominal one, and the key that is worst there."""
    found = {}
    for nominal in NOMINAL:
        hits = p < nominal
        worst = int(hits.sum(axis=0).max())
        low, high = clopper_pearson(worst, len(p))
        found[f"{nominal:g}"] = {
            "observed": float(hits.mean()),
            "interval": bootstrap_mean(hits.mean(axis=1), documents, seed=seed),
            "worst_key": {"observed": worst / len(p), "interval": [low, high], "keys_surely_above_1.5": _surely_above(hits, 1.5 * nominal)},
        }
    return found


def _surely_above(hits: np.ndarray, rate: float) -> int:
    """Keys whose rate is above `rate` at 99.9 % confidence: among 64 sound ones there is hardly ever one."""
    return sum(clopper_pearson(int(k), len(hits), 0.998)[0] > rate for k in hits.sum(axis=0))


def measure(found: PrefixEvidence, texts: Texts, calibration: Calibration, signs: np.ndarray, seed: int) -> list[dict]:
    seen = set(calibration.fingerprints.tolist())
    fresh = np.array([fingerprint(text) not in seen for text in texts.texts])
    rows = []
    for length in TESTED:
        evidence, numbers = found.at(length)
        kept = fresh[numbers] & (np.abs(evidence).sum(axis=1) > 0)
        if kept.sum() < 20:
            continue
        exact, reported = p_values(evidence[kept], signs, calibration.lean, length)
        documents = [texts.documents[i] for i in numbers[kept]]
        about = {"kind": texts.kind, "tokens": length, "texts": int(kept.sum()), "documents": len(set(documents)), "keys": len(signs)}
        rows.append({**about, "exact": rates(exact, documents, seed), "reported": rates(reported, documents, seed)})
        print(json.dumps({**about, "reported": {k: v["observed"] for k, v in rows[-1]["reported"].items()}}), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", action="append", required=True, metavar="KIND=FILE")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--keys", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = default_checkpoint(DEFAULT_BASE_MODEL)
    config = read_config(folder)
    calibration = load_calibration(folder, weights_digest(folder), config.n)
    if calibration is None:
        parser.error("the checkpoint has no calibration; make it with: countersign calibrate")
    keys, refused = sound_keys(calibration, options.keys, config.nonce_bits, np.random.default_rng([options.seed, 2]))
    signs = np.stack([unpack_signs(masks(key, range(2**config.nonce_bits), config.n), config.n) for key in keys])
    sets = [read_kind(kind, Path(path)) for kind, _, path in (item.partition("=") for item in options.texts)]
    cells = []
    for texts in [*sets, repetitive(sets[0].texts)]:

        def progress(done: int, of: int, kind: str = texts.kind) -> None:
            print(f"{kind}: {done} of {of} read", file=sys.stderr, flush=True)

        found = prefix_evidence(_read, texts.texts, LENGTHS, options.work / texts.kind, folder.name, progress)
        cells += measure(found, texts, calibration, signs, options.seed)
    sources = {kind: Path(path).name for kind, _, path in (item.partition("=") for item in options.texts)}
    report = {
        "weights_sha256": weights_digest(default_checkpoint(DEFAULT_BASE_MODEL)),
        "seed": options.seed,
        "sources": sources,
        "keys": len(keys),
        "keys_refused": refused,
        "cells": cells,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
