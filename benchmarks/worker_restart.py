"""How long the service is away after `kill -9` of its generation worker in the middle of a stream.

    python -m benchmarks.worker_restart [--kills 5]

Starts `countersign serve` with the default model and prints one JSON object: seconds from the kill until the streaming client has its
error, until readiness has dropped, and until the service is ready again. Kills that follow quickly upon each other are answered with longer
pauses.
"""

from __future__ import annotations

import argparse
import json
import threading
import time

import httpx

from benchmarks.load_service import Service, running

LOOK_SECONDS = 0.02
PATIENCE_SECONDS = 60.0


def generation_pid(service: Service) -> int:
    """Of the worker that was started last."""
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    return [line["pid"] for line in lines if line["event"] == "worker_ready" and line["worker"] == "generation"][-1]


def until_status(service: Service, status: int, since: float) -> float:
    """Seconds from `since` until readiness is answered with `status`."""
    while httpx.get(f"{service.url}/readyz", timeout=30).status_code != status:
        if time.monotonic() - since > PATIENCE_SECONDS:
            raise SystemExit(f"/readyz did not become {status} within {PATIENCE_SECONDS} s.")
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - since


def kill(service: Service) -> dict[str, float]:
    """Once, while a text is being streamed."""
    writing, told = threading.Event(), []

    def stream() -> None:
        body = {"prompt": "The harbour was quiet that morning, and", "max_new_tokens": 500, "stream": True}
        with httpx.stream("POST", f"{service.url}/generate", json=body, headers=service.headers, timeout=PATIENCE_SECONDS) as answer:
            for line in answer.iter_lines():
                if line == "event: piece":
                    writing.set()
                elif line == "event: error":
                    told.append(time.monotonic())
                    return

    client = threading.Thread(target=stream)
    client.start()
    if not writing.wait(PATIENCE_SECONDS):
        raise SystemExit("The stream did not begin.")
    worker = next(process for process in service.processes() if process.pid == generation_pid(service))
    worker.kill()
    since = time.monotonic()
    dropped = until_status(service, 503, since)
    back = until_status(service, 200, since)
    client.join(PATIENCE_SECONDS)
    if not told:
        raise SystemExit("The stream ended without an error event.")
    return {"error_event": round(told[0] - since, 3), "not_ready": round(dropped, 3), "ready_again": round(back, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    with running(None) as service:
        print(json.dumps({"seconds_after_kill": [kill(service) for _ in range(options.kills)]}, indent=2))


if __name__ == "__main__":
    main()
