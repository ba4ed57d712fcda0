"""How fast Countersign writes and verifies, against itself unmarked and against other engines and watermarks, on this machine.

    python -m benchmarks.speed [--out docs/speed/speed.json] [--plot docs/speed/speed.png] [--only NAME,NAME] [--quick]

Prints a Markdown table. Whatever is compared runs in turns within this one command, each library in a process of its own that is suspended
while another is timed; a ratio is taken in each round, and its median and range are reported. Nothing else should run meanwhile. Libraries
that Countersign does not need itself take part when they are installed: xllamacpp (llama.cpp) and textseal, the latter perhaps in another
environment (`--textseal-python`) that can import torch and transformers too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.speed.bench import QUICK, Bench, Settings
from benchmarks.speed.generating import against_llamacpp, against_transformers, marking, other_watermarks
from benchmarks.speed.machine import machine
from benchmarks.speed.rows import Row, table
from benchmarks.speed.serving import serving
from benchmarks.speed.verifying import long_texts, verification

MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    "marking": marking,
    "transformers": against_transformers,
    "llamacpp": against_llamacpp,
    "verification": verification,
    "watermarks": other_watermarks,
    "long-texts": long_texts,
    "service": serving,
}


def chosen(names: str) -> list[str]:
    """Measures by name, with commas. Raises ArgumentTypeError for one that there is not."""
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in MEASURES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    return wanted


def report(bench: Bench, options: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    """Everything for the JSON. The command is told without paths, which are nobody's business."""
    command = ["python -m benchmarks.speed"]
    command += ["--quick"] if options.quick else []
    command += [f"--rounds {options.rounds}"] if options.rounds else []
    command += [f"--only {','.join(options.only)}"] if options.only != list(MEASURES) else []
    return {
        "command": " ".join(command),
        "machine": {**machine(), "threads": bench.threads},
        "versions": bench.versions,
        "settings": asdict(bench.settings),
        "rows": [row.as_json() for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures of every round as JSON")
    parser.add_argument("--plot", type=Path, help="write a PNG")
    parser.add_argument("--only", type=chosen, default=list(MEASURES), metavar="NAME[,NAME]", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, help=f"{Settings.rounds} when left out")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of every engine; one for every core when left out")
    parser.add_argument("--textseal-python", default=sys.executable, metavar="PATH", help="of the environment that has textseal")
    parser.add_argument("--quick", action="store_true", help="a few tokens and one round: does everything run?")
    options = parser.parse_args()
    settings = QUICK if options.quick else Settings()
    if options.rounds:
        settings = replace(settings, rounds=options.rounds)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="countersign-speed-") as scratch:
        bench = Bench(settings, options.threads, Path(scratch), options.textseal_python)
        for name in options.only:
            print(f"{name} …", file=sys.stderr, flush=True)
            rows += MEASURES[name](bench)
            if options.out:  # after every measure: hours of work are not lost to the last one
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(report(bench, options, rows), indent=1, ensure_ascii=False) + "\n")
    print(table(rows))
    if options.plot:
        from benchmarks.speed.plot import speed_plot

        speed_plot(rows, options.plot)


if __name__ == "__main__":
    main()
