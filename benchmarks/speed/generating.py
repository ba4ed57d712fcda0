"""How fast texts are written: marked against unmarked, against other engines, and what other watermarks cost their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.speed.bench import BATCH, BATCH_PROMPTS, Bench
from benchmarks.speed.contest import Contestant
from benchmarks.speed.pairing import interleaved
from benchmarks.speed.rows import Asked, Figure, Row, not_installed

BATCHES = (1, BATCH)
WARM_UP_TOKENS = 4
Writer = Callable[[int], dict[str, Any]]
"""Writes the batch of one round."""


def marking(bench: Bench) -> list[Row]:
    """Marked against unmarked in the same engine, a few tokens of each in turns: the difference is smaller than what a machine's speed
    changes by within seconds."""
    rows = []
    with bench.contest("countersign") as (engines, _):
        for batch in BATCHES:
            write = writer(bench, engines["countersign"], batch, bench.settings.new_tokens, call="generate_in_turns")
            both = taken_in_turns(bench, {"both": write})["both"]
            runs = {name: [run[name] for run in both] for name in ("marked", "unmarked")}
            rows.append(versus(f"marked / unmarked, batch {batch}", runs, Asked("ratio", "≥", 0.97), "decoding_"))
            rows.append(versus(f"the same with the self-check, batch {batch}", runs))
    return rows


def against_transformers(bench: Bench) -> list[Row]:
    """Marked text against transformers' `generate` in float32."""
    rows = []
    with bench.contest("countersign", "transformers") as (engines, _):
        for batch, least in zip(BATCHES, (4.0, 5.0), strict=True):
            runs = taken_in_turns(
                bench,
                {
                    "ours": writer(bench, engines["countersign"], batch, bench.settings.new_tokens, marked=True),
                    "transformers": writer(bench, engines["transformers"], batch, bench.settings.new_tokens, scheme="plain"),
                },
            )
            rows.append(versus(f"ours / transformers float32, batch {batch}", runs, Asked("ratio", "≥", least)))
    return rows


def against_llamacpp(bench: Bench) -> list[Row]:
    """Marked text against llama.cpp on the model's own Q4_K_M file, with as many threads."""
    rows = []
    for batch, least in zip(BATCHES, (0.8, 1.5), strict=True):
        measure = f"ours / llama.cpp Q4_K_M, {'batch 1' if batch == 1 else f'{batch} parallel'}"
        with bench.contest("countersign", "llamacpp", parallel=batch) as (engines, absent):
            if absent:
                rows.append(not_installed(measure, absent["llamacpp"]))
                continue
            tokens = bench.settings.new_tokens
            runs = taken_in_turns(
                bench,
                {
                    "ours": writer(bench, engines["countersign"], batch, tokens, marked=True),
                    "llama.cpp": writer(bench, engines["llamacpp"], batch, tokens),
                },
            )
        rows.append(versus(measure, runs, Asked("ratio", "≥", least)))
    return rows


def other_watermarks(bench: Bench) -> list[Row]:
    """What marking costs elsewhere at batch 16, each against transformers' plain `generate` and textseal's also against its own."""
    tokens = bench.settings.overhead_tokens
    with bench.contest("countersign", "transformers", "textseal") as (engines, absent):
        writers = {name: writer(bench, engines["transformers"], BATCH, tokens, scheme=s) for name, s in TRANSFORMERS.items()}
        if "textseal" in engines:
            writers |= {name: writer(bench, engines["textseal"], BATCH, tokens, scheme=s) for name, s in TEXTSEAL.items()}
        for name in ("ours", "ours, unmarked"):
            writers[name] = writer(bench, engines["countersign"], BATCH, bench.settings.new_tokens, marked=name == "ours")
        runs = taken_in_turns(bench, writers)
    plain, unmarked = next(iter(TRANSFORMERS)), next(iter(TEXTSEAL))
    others = [name for name in runs if name in {**TRANSFORMERS, **TEXTSEAL}]
    pairs = [(name, plain) for name in others if name != plain]
    pairs += [(name, unmarked) for name in others if name in TEXTSEAL and name != unmarked]
    pairs += [("ours", "ours, unmarked")]
    rows = [versus(f"writing, batch {BATCH}: {a} / {b}", {name: runs[name] for name in (a, b)}) for a, b in pairs]
    return rows + [not_installed(f"writing, batch {BATCH}: textseal / {plain}", package) for package in absent.values()]


TRANSFORMERS = {"transformers": "plain", "transformers' KGW": "kgw", "transformers' SynthID": "synthid"}
TEXTSEAL = {"textseal, unmarked": "none", "textseal Gumbel-max": "gumbelmax", "textseal green-list": "greenlist"}


def writer(bench: Bench, contestant: Contestant, batch: int, tokens: int, call: str = "generate", **how: Any) -> Writer:
    """Every round draws other texts; all contestants of a round have the same prompts."""
    prompts = list(BATCH_PROMPTS[:batch])

    def write(number: int) -> dict[str, Any]:
        length = tokens if number >= 0 else WARM_UP_TOKENS
        return contestant(call, prompts=prompts, new_tokens=length, seed=bench.settings.seed + 1000 * (number + 1), **how)

    return write


def taken_in_turns(bench: Bench, writers: dict[str, Writer]) -> dict[str, list[dict[str, Any]]]:
    """The rounds of all writers, each warmed up before (round -1, a few tokens)."""
    for write in writers.values():
        write(-1)
    return interleaved(writers, bench.settings.rounds)


def versus(measure: str, runs: dict[str, list[dict[str, Any]]], asked: Asked | None = None, part: str = "") -> Row:
    """The first writer of `runs` against the second."""
    first, second = (rate(name, found, part) for name, found in runs.items())
    return Row(measure, first, second, asked)


def rate(name: str, runs: list[dict[str, Any]], part: str = "") -> Figure:
    return Figure(name, "tokens/s", [run[f"{part}tokens"] / run[f"{part}seconds"] for run in runs])
