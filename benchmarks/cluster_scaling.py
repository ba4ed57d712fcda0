"""How throughput grows from one replica to two under Ray Serve, and where it would end.

    python -m benchmarks.cluster_scaling [--rounds 3] [--seconds 30] [--seed 1] [--out FILE] [--page FILE]

Starts `countersign serve --engine ray` with one replica of each kind, and with two, of one thread each; in every round both, in turns. Each
is given more verifications of one text than it can do, then more generations. Rates are answers in a window; of every process the CPU
time is taken too, since clients, proxy, ingress and replicas share the machine: what a text costs in each of them is what the model of
more replicas on more machines is made of. Progress on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil

from benchmarks.load_service import Service, running
from benchmarks.load_texts import PROMPTS, prose
from benchmarks.scaling_page import page
from benchmarks.speed.machine import machine

REPLICAS = (1, 2)
WORDS = 155
"""Of a text to verify: about 200 tokens."""
NEW_TOKENS = 64
WARM_UP_SECONDS = 5.0
CLIENTS = {"verify": 6, "generate": 20}
"""Requests under way for each replica: more than it works on at once."""
PARTS = {"verification": "replica", "generation": "replica", "ingress": "ingress", "ProxyActor": "proxy"}
"""What a process is, by what stands in the name that Ray gives it. Others, that keep the cluster together, are `ray`."""


@dataclass(frozen=True)
class Window:
    """What happened within `seconds`."""

    seconds: float
    answers: int
    tokens: int
    cpu_seconds: dict[str, float]
    """Of the processes, by part; `client` is this one."""


def part_of(process: psutil.Process) -> str:
    """Workers that a replica forked belong to it."""
    for each in [process, *process.parents()]:
        if (name := " ".join(each.cmdline())).startswith("ray::"):
            return next((part for word, part in PARTS.items() if word in name), "ray")
    return "ray"


def cpu_seconds(service: Service) -> Counter[str]:
    found: Counter[str] = Counter()
    for process in service.processes():
        try:
            times = process.cpu_times()
            found[part_of(process)] += times.user + times.system  # type: ignore[assignment]
        except psutil.Error:  # it ended meanwhile
            continue
    own = psutil.Process().cpu_times()
    found["client"] = own.user + own.system  # type: ignore[assignment]
    return found


def body(kind: str, random: Random) -> dict[str, Any]:
    if kind == "verify":
        return {"text": prose(random, WORDS), "detail": "public"}
    sampling = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "seed": random.randrange(2**31)}
    return {"prompt": random.choice(PROMPTS), "receipt": False, **sampling}


async def load(service: Service, kind: str, clients: int, seconds: float, seed: int) -> Window:
    """Clients that ask, wait and ask again. Raises httpx.HTTPStatusError: no request may fail."""
    answers = tokens = 0
    async with httpx.AsyncClient(base_url=service.url, headers=service.headers, timeout=120) as client:

        async def ask(number: int) -> None:
            nonlocal answers, tokens
            random = Random(f"{seed} {kind} {number}")
            while True:
                answer = await client.post(f"/{kind}", json=body(kind, random))
                answer.raise_for_status()
                answers += 1
                tokens += NEW_TOKENS if kind == "generate" else 0

        tasks = [asyncio.create_task(ask(number)) for number in range(clients)]
        await asyncio.wait(tasks, timeout=WARM_UP_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        began, answers, tokens, before = time.monotonic(), 0, 0, cpu_seconds(service)
        failed, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        spent, after = time.monotonic() - began, cpu_seconds(service)
        window = Window(spent, answers, tokens, {part: round(after[part] - before[part], 3) for part in sorted(after)})
        for task in tasks:
            task.cancel()
        for task in failed:
            task.result()
        await asyncio.gather(*tasks, return_exceptions=True)
    return window


def measure(replicas: int, seconds: float, seed: int) -> dict[str, Window]:
    options = ("--engine", "ray", "--generation-replicas", str(replicas), "--verification-replicas", str(replicas))
    with running(1, options) as service:
        return {kind: asyncio.run(load(service, kind, each * replicas, seconds, seed)) for kind, each in CLIENTS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/scale/scaling.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/scale/scaling.md"))
    options = parser.parse_args()
    rounds = []
    for number in range(options.rounds):
        order = REPLICAS if number % 2 == 0 else REPLICAS[::-1]
        measured = {}
        for replicas in order:
            windows = measure(replicas, options.seconds, options.seed + number)
            measured[str(replicas)] = {kind: asdict(window) for kind, window in windows.items()}
            rates = ", ".join(f"{kind} {window.answers / window.seconds:.1f}/s" for kind, window in windows.items())
            print(f"round {number + 1}, replicas of each kind: {replicas}: {rates}", file=sys.stderr)
        rounds.append(measured)
    record = {"date": time.strftime("%Y-%m-%d"), "seed": options.seed, "seconds": options.seconds, "machine": machine(), "rounds": rounds}
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    options.page.write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
