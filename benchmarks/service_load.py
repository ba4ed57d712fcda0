"""The running service under load: clients that mix generating and verifying, more of them than both cores can serve at once.

    python -m benchmarks.service_load [--clients 64] [--seconds 180] [--verify-share .6] [--threads N] [--seed 1]

Starts `countersign serve` with the default model in processes of its own and prints one JSON object. Clients think for one to five
seconds between requests, leave some streams midway, and wait as long as a refusal tells them. Exit status 1 when anything but announced
refusals (429 and 503 with Retry-After) went wrong, or a worker was restarted.
"""

from __future__ import annotations

from benchmarks.load_clients import client_class  # isort: skip  # first: it makes sockets and sleep cooperative

import argparse
import json
import os
import sys
import time
from typing import Any

import gevent
from locust.env import Environment

from benchmarks import load_summary
from benchmarks.load_plan import THINKING
from benchmarks.load_service import Service, running
from benchmarks.load_summary import Record, Sample
from service.settings import Settings

BATCH_SIZE: int = Settings.model_fields["batch_size"].default
SPAWN_RATE = 16
"""Clients started a second."""
LOOK_SECONDS = 2.0
MINUTE_ONE = 60.0


def watch(service: Service, samples: list[Sample], began: float) -> None:
    """Look at the service again and again, until killed."""
    while True:
        metrics = service.metrics()
        running_prompts, waiting_prompts = (int(metrics[f"countersign_{name}_prompts"]) for name in ("running", "waiting"))
        samples.append(Sample(time.monotonic() - began, running_prompts, waiting_prompts, service.memory()))
        gevent.sleep(LOOK_SECONDS)


def load(service: Service, options: argparse.Namespace) -> dict[str, Any]:
    """Of `options.seconds`; what was seen."""
    record, samples = Record(), []
    environment = Environment(user_classes=[client_class(service, record, options.seed, options.verify_share)])
    environment.events.user_error.add_listener(lambda exception, **_: record.failed("client", repr(exception)))
    runner = environment.create_local_runner()
    before, cpu_before, began = service.metrics(), service.cpu_seconds(), time.monotonic()
    watching = gevent.spawn(watch, service, samples, began)
    runner.start(options.clients, spawn_rate=SPAWN_RATE)
    gevent.sleep(options.seconds)
    seconds, cpu, after = time.monotonic() - began, service.cpu_seconds() - cpu_before, service.metrics()
    if watching.exception is not None:
        raise watching.exception
    watching.kill()
    runner.quit()
    grown = {
        name: after[f"countersign_{name}_tokens_total"] - before[f"countersign_{name}_tokens_total"] for name in ("generated", "verified")
    }
    settled = options.clients / SPAWN_RATE + 2 * THINKING[1]
    return {
        "seconds": round(seconds, 1),
        "requests": load_summary.requests(record),
        "announced_refusals": dict(record.refusals),
        "errors": dict(record.errors),
        "latency_ms": {name: load_summary.latencies(record.seconds[name]) for name in sorted(record.seconds)},
        "tokens_per_second": {name: round(count / seconds, 1) for name, count in grown.items()},
        "saturation": {
            **load_summary.saturation(samples, BATCH_SIZE, settled),
            "service_cpu_share": round(cpu / seconds / (os.cpu_count() or 1), 3),
        },
        "memory": load_summary.memory(samples, min(MINUTE_ONE, options.seconds / 3)),
        "verdicts": load_summary.correctness(record),
        "worker_restarts": int(after["countersign_worker_restarts_total"]),
        "errors_in_the_log": service.logged_errors(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--verify-share", type=float, default=0.6, help="share of the requests that verify")
    parser.add_argument("--threads", type=int, help="CPU threads of each worker; the service's own default when left out")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with running(options.threads) as service:
        seen = load(service, options)
    print(json.dumps({"parameters": vars(options), "cores": os.cpu_count(), **seen}, indent=2))
    if seen["errors"] or seen["worker_restarts"] or seen["errors_in_the_log"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
