"""How long the service takes from its start until it is ready, and how much memory it holds when it has worked.

    python -m benchmarks.service_footprint [--starts 3] [--requests 8] [--out FILE]

Starts `countersign serve` with the default model, converted before, in an empty data folder, so that each start also makes a
database and a checked issuer. Seconds are from spawning the command to the first 200 of /readyz, which is asked five times a second;
the first start, which may find the disk's cache cold, stands apart. Memory is the proportional set size, in which what processes share
counts once, before and after requests of both kinds, and when the service has rested for a moment. Prints a table; the JSON goes to
FILE, or after the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.load_service import Service, running
from models.registry import DEFAULT_BASE_MODEL, prepare_base_model

PROMPT = "The harbour was quiet that morning, and"
NEW_TOKENS = 60
TEXT = "The harbour was quiet that morning, and nobody had yet come to ask whose boat it was. " * 12
SECONDS_ASKED = 10.0
MIB_ASKED = 1536
REST_SECONDS = 4


def roles(service: Service) -> dict[int, str]:
    """Process ids to what the processes do: the API, the workers as the log names them, and the nursery that forked those."""
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    workers = {line["pid"]: line["worker"] for line in lines if line["event"] == "worker_ready"}
    return {process.pid: "api" if process == service.process else workers.get(process.pid, "nursery") for process in service.processes()}


def memory(service: Service) -> dict[str, float]:
    """MiB by role, and in all."""
    names = roles(service)
    found = {names[process.pid]: process.memory_full_info().pss / 2**20 for process in service.processes()}
    return {role: round(size, 1) for role, size in {**found, "total": sum(found.values())}.items()}


def work(service: Service, requests: int) -> None:
    """As many texts written, each alone, as verified in one request."""
    with httpx.Client(base_url=service.url, headers=service.headers, timeout=120) as client:
        for seed in range(requests):
            client.post("/generate", json={"prompt": PROMPT, "max_new_tokens": NEW_TOKENS, "seed": seed}).raise_for_status()
        client.post("/verify", json={"text": [TEXT] * requests}).raise_for_status()


def start(requests: int) -> dict[str, Any]:
    """One start: seconds until ready, memory then, and memory after the requests."""
    began = time.monotonic()
    with running(None) as service:
        seconds = time.monotonic() - began
        idle = memory(service)
        work(service, requests)
        worked = memory(service)
        time.sleep(REST_SECONDS)
        return {"ready_seconds": round(seconds, 2), "idle_mib": idle, "worked_mib": worked, "rested_mib": memory(service)}


def summary(starts: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over all starts but the first, which is kept apart; a single one stands for itself."""
    later = starts[1:] or starts

    def sizes(when: str) -> dict[str, float]:
        return {role: statistics.median(each[when][role] for each in later) for role in later[0][when]}

    return {
        "first_ready_seconds": starts[0]["ready_seconds"],
        "ready_seconds": statistics.median(each["ready_seconds"] for each in later),
        "idle_mib": sizes("idle_mib"),
        "worked_mib": sizes("worked_mib"),
        "rested_mib": sizes("rested_mib"),
        "asked": {"ready_seconds": SECONDS_ASKED, "worked_mib": MIB_ASKED},
        "starts": starts,
    }


def show(found: dict[str, Any]) -> None:
    table = Table(
        title=f"Ready after {found['ready_seconds']} s (first start {found['first_ready_seconds']} s)\nasked: {SECONDS_ASKED:g} s"
    )
    for heading in ("process", "MiB when ready", "MiB after requests", f"MiB {REST_SECONDS} s later"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    for role, size in found["worked_mib"].items():
        asked = f" (asked: {MIB_ASKED})" if role == "total" else ""
        table.add_row(role, f"{found['idle_mib'][role]:.0f}", f"{size:.0f}{asked}", f"{found['rested_mib'][role]:.0f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    prepare_base_model(DEFAULT_BASE_MODEL)
    found = summary([start(options.requests) for _ in range(max(1, options.starts))])
    show(found)
    text = json.dumps(found, indent=2) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
