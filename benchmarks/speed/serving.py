"""What the service adds to the bare engine. (What it needs to start and to run: `benchmarks.service_footprint`.)

The client shares the machine with the service, so it does as little as possible: a thread for each stream that reads bytes until the end.
"""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load_service import Service, running
from benchmarks.speed.bench import BATCH, BATCH_PROMPTS, TOP_K, Bench
from benchmarks.speed.generating import Writer, taken_in_turns, versus, writer
from benchmarks.speed.rows import Asked, Row

TIMEOUT = 600
OVERHEAD = 0.10


def serving(bench: Bench) -> list[Row]:
    """16 streams through the running service against a batch of 16 in the bare engine with as many threads, both with the self-check."""
    tokens = bench.settings.new_tokens
    with bench.contest("countersign") as (engines, _), running(bench.threads) as service:
        writers = {
            "service": _streams(bench, service, tokens),
            "bare engine": writer(bench, engines["countersign"], BATCH, tokens, marked=True),
        }
        runs = taken_in_turns(bench, writers)
    return [versus(f"service / bare engine, {BATCH} streams", runs, Asked("ratio", "≥", 1 / (1 + OVERHEAD)))]


def _streams(bench: Bench, service: Service, tokens: int) -> Writer:
    def write(number: int) -> dict[str, Any]:
        bodies = [
            {
                "prompt": prompt,
                "max_new_tokens": tokens,
                "min_new_tokens": tokens,
                "temperature": 1.0,
                "top_k": TOP_K,
                "seed": bench.settings.seed + 1000 * (number + 1) + i,
                "stream": True,
            }
            for i, prompt in enumerate(BATCH_PROMPTS)
        ]
        with ThreadPoolExecutor(len(bodies)) as threads:
            began = time.perf_counter()
            answers = list(threads.map(lambda body: _stream(service, json.dumps(body)), bodies))
            seconds = time.perf_counter() - began
        return {"tokens": sum(map(new_tokens, answers)), "seconds": seconds}

    return write


def _stream(service: Service, body: str) -> bytes:
    """All events of one text, as they came."""
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=TIMEOUT)
    connection.request("POST", "/generate", body, {**service.headers, "Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"The service answered {answer.status}: {content.decode()[:500]}")
    return content


def new_tokens(events: bytes) -> int:
    """Tokens of a stream, from its `result` event. Raises RuntimeError for a stream without one."""
    for block in events.decode().replace("\r\n", "\n").split("\n\n"):
        name, _, data = block.partition("\n")
        if name == "event: result":
            return json.loads(data.removeprefix("data: "))["usage"]["new_tokens"]
    raise RuntimeError(f"A stream broke off: {events.decode()[-500:]}")
