"""A million lines through `--engine ray`, killed on the way: every line has exactly one output.

    python -m benchmarks.bulk_million --folder out/bulk --lines 1000000

A worker is killed (SIGKILL) after a fifth of the lines, the whole run after two fifths and again after seven tenths; each time the same
run is started again. The model is a fake that computes nothing, since what is tested is all the rest: one line in 97 is bad. Prints what
happened as JSON, and fails if a line is missing, twice, out of place or wrong.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.bulk.fake_model import FakeModelChoice
from watermark.bulk.engine import run_on_ray
from watermark.bulk.folder import MANIFEST, PARTS, RunFolder
from watermark.bulk.jobs import KeyChoice, VerifyJob
from watermark.codebook.keys import KeyRing

Kills = Sequence[tuple[str, float]]
"""(what to kill, after which share of the parts)."""
KILLS: Kills = (("worker", 0.2), ("run", 0.4), ("run", 0.7))
BAD_EVERY = 97
ROOT = Path(__file__).parents[1]


def line(index: int) -> str:
    """Line `index` of the input."""
    return "no JSON" if index % BAD_EVERY == 5 else json.dumps({"text": f"Text number {index} " + "and so on " * (index % 7)})


def expected(index: int, record: dict) -> bool:
    """Whether this is the record of line `index`."""
    if index % BAD_EVERY == 5:
        return record.get("error", {}).get("line") == index + 1
    return record.get("explanation") == f"fake verdict on: {json.loads(line(index))['text']}"


def run(folder: Path, workers: int, block_lines: int, seconds: float) -> None:
    """The run itself, in a process of its own. Its key ring is in the folder."""
    ring = KeyRing(folder / "keys")
    job = VerifyJob(FakeModelChoice(seconds), KeyChoice.of(ring, ring.all()), 1e-3, "public")
    with RunFolder(folder / "result", [folder / "in.jsonl"], job.field, job.arguments(), block_lines) as result:
        run_on_ray(job, result, workers=workers, gpu=False, batch_size=256, on_lines=lambda done: None)


def prepare(folder: Path, lines: int) -> None:
    """Input and key ring. Raises FileExistsError if the folder is in use."""
    (folder / "keys").mkdir(parents=True, mode=0o700)
    KeyRing(folder / "keys").create("fake")
    with (folder / "in.jsonl").open("w") as file:
        file.writelines(line(index) + "\n" for index in range(lines))


def parts_there(folder: Path) -> int:
    return sum(1 for _ in (folder / "result" / PARTS).glob("part-*.jsonl"))


def kill(process: subprocess.Popen, what: str) -> None:
    """SIGKILL for one worker, or for the run: its own process; those of Ray have to end by themselves."""
    if what == "run":
        process.kill()
        process.wait()
        return
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if "MapWorker" in " ".join(child.cmdline())]
    workers[0].kill()


def survive(folder: Path, lines: int, workers: int, block_lines: int, seconds: float, kills: Kills) -> list[dict]:
    """Start the run, kill it as planned, start it again until it ends. Returns the kills."""
    blocks = -(-lines // block_lines)
    command = [sys.executable, "-m", "benchmarks.bulk_million", "--folder", str(folder), "--workers", str(workers)]
    command += ["--block-lines", str(block_lines), "--seconds", str(seconds), "--run"]
    plan = list(kills)
    # Ray's workers step back for everything else on the machine; here they are what is looked at.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local", "RAY_worker_niceness": "0"}
    happened = []
    while True:
        with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
            while process.poll() is None and plan:
                if parts_there(folder) >= plan[0][1] * blocks:
                    what, _ = plan.pop(0)
                    kill(process, what)
                    happened.append({"killed": what, "parts_there": parts_there(folder)})
                time.sleep(0.05)
        if process.returncode == 0:
            return happened
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"The run ended with status {process.returncode}.")


def check(folder: Path, lines: int) -> dict:
    """Every line against its record. Raises AssertionError."""
    manifest = json.loads((folder / "result" / MANIFEST).read_text())
    records = _records(folder / "result", manifest)
    for index in range(lines):
        record = next(records, None)
        assert record is not None and expected(index, record), f"line {index + 1}: {record}"
    assert next(records, None) is None, "more outputs than inputs"
    assert len(manifest["parts"]) == parts_there(folder), "parts that the manifest does not know"
    return {"lines": manifest["lines"], "errors": manifest["errors"], "parts": len(manifest["parts"])}


def _records(folder: Path, manifest: dict) -> Iterator[dict]:
    return itertools.chain.from_iterable(map(json.loads, (folder / part["path"]).open()) for part in manifest["parts"])


def measure(folder: Path, lines: int, workers: int, block_lines: int, seconds: float = 0.0, kills: Kills = KILLS) -> dict:
    prepare(folder, lines)
    start = time.monotonic()
    happened = survive(folder, lines, workers, block_lines, seconds, kills)
    took = time.monotonic() - start
    return check(folder, lines) | {"workers": workers, "seconds": round(took, 1), "kills": happened}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="must not exist yet")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--block-lines", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=0.0, help="that the fake takes for a text")
    parser.add_argument("--run", action="store_true", help="be the run that is killed")
    given = parser.parse_args()
    if given.run:
        run(given.folder, given.workers, given.block_lines, given.seconds)
    else:
        print(json.dumps(measure(given.folder, given.lines, given.workers, given.block_lines, given.seconds)))


if __name__ == "__main__":
    main()
