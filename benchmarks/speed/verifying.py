"""How fast texts are verified: one, many in a call, against other watermarks' detectors, and from short to very long."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.speed.bench import BATCH, BATCH_PROMPTS, Bench
from benchmarks.speed.contest import Contestant
from benchmarks.speed.pairing import interleaved, power_law
from benchmarks.speed.rows import Asked, Figure, Row, not_installed

UNIT = "ms a text"
MS = 1000.0
DETECTORS = {
    "ours": ("countersign", {}),
    "transformers' KGW": ("transformers", {"scheme": "kgw"}),
    "transformers' SynthID (mean)": ("transformers", {"scheme": "synthid"}),
    "textseal Gumbel-max": ("textseal", {"scheme": "gumbelmax"}),
    "textseal green-list": ("textseal", {"scheme": "greenlist"}),
}
"""SynthID by its weighted mean: its Bayesian detector must be trained for each key first."""
NO_MODEL = "the other hashes tokens and runs no model"


def verification(bench: Bench) -> list[Row]:
    """Texts of 200 tokens that we marked, one at a time and 64 in a call; all detectors read the same ones."""
    settings = bench.settings
    with bench.contest("countersign", "transformers", "textseal") as (engines, absent):
        texts = written_texts(bench, engines["countersign"], settings.batch_texts, settings.text_tokens)
        single = [[text] for text in texts[: settings.single_texts]]
        present = {name: (engines[engine], how) for name, (engine, how) in DETECTORS.items() if engine in engines}
        readers = {name: _reader(contestant, single, how) for name, (contestant, how) in present.items()}
        readers_of_all = {name: _reader(contestant, [texts], how) for name, (contestant, how) in present.items()}
        found, found_of_all = (_in_turns(r, settings.rounds) for r in (readers, readers_of_all))
    one, many = (f"verification, {count} × {settings.text_tokens} tokens" for count in (1, len(texts)))
    rows = [
        Row(one, found["ours"], asked=Asked("figure", "≤", 60)),
        Row(many, found_of_all["ours"], asked=Asked("figure", "≤", 25)),
    ]
    for name in list(found)[1:]:
        asked = Asked("ratio", "≥", 8.0) if name == "transformers' KGW" else None
        rows.append(Row(f"{one}: ours / {name}", found["ours"], found[name], asked, NO_MODEL))
        rows.append(Row(f"{many}: ours / {name}", found_of_all["ours"], found_of_all[name], None, NO_MODEL))
    return rows + [not_installed(f"{one}: ours / textseal", package) for package in absent.values()]


def long_texts(bench: Bench) -> list[Row]:
    """Verification time against length: linear, if the exponent of a power law is 1."""
    settings = bench.settings
    with bench.contest("countersign") as (engines, _):
        ours = engines["countersign"]
        source = written_texts(bench, ours, BATCH, settings.source_tokens)
        texts = ours("joined", texts=source, lengths=list(settings.lengths), seed=settings.seed)
        ours("detect", calls=[texts[:1]])
        readers = {
            str(length): lambda number, text=text: ours("detect", calls=[[text]])
            for length, text in zip(settings.lengths, texts, strict=True)
        }
        runs = interleaved(readers, settings.rounds)
    points = [(run["tokens"][0], run["seconds"][0]) for found in runs.values() for run in found]
    fit = power_law(*zip(*points, strict=True))
    unit = "ms a token"
    rows = [
        Row(f"verification of {length:,} tokens", Figure("ours", unit, [MS * r["seconds"][0] / r["tokens"][0] for r in runs[str(length)]]))
        for length in settings.lengths
    ]
    measure = f"verification time, {min(settings.lengths):,} to {max(settings.lengths):,} tokens"
    exponent = Figure("exponent", "", [fit.exponent])
    note = f"time ∝ tokens^{fit.exponent:.3f}, 95 % interval {fit.low:.3f} … {fit.high:.3f}"
    detail = {"points": [[tokens, round(seconds, 5)] for tokens, seconds in points], "interval": [round(fit.low, 4), round(fit.high, 4)]}
    return [*rows, Row(measure, exponent, asked=Asked("figure", "≤", 1.1), note=note, detail=detail)]


def written_texts(bench: Bench, ours: Contestant, count: int, tokens: int) -> list[str]:
    """Marked texts of `tokens` tokens each, a batch at a time."""
    texts: list[str] = []
    while len(texts) < count:
        seed = bench.settings.seed + 10_000 + len(texts)
        texts += ours("generate", prompts=list(BATCH_PROMPTS), new_tokens=tokens, seed=seed, marked=True)["texts"]
    return texts[:count]


def _reader(contestant: Contestant, calls: list[list[str]], how: dict[str, Any]) -> Callable[[int], float]:
    """Median milliseconds a text over the calls."""

    def read(number: int) -> float:
        seconds = contestant("detect", calls=calls, **how)["seconds"]
        return MS * statistics.median(s / len(texts) for s, texts in zip(seconds, calls, strict=True))

    return read


def _in_turns(readers: dict[str, Callable[[int], float]], rounds: int) -> dict[str, Figure]:
    for read in readers.values():
        read(-1)
    return {name: Figure(name, UNIT, values) for name, values in interleaved(readers, rounds).items()}
