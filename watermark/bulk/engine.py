"""Runs on Ray Data: an actor pool holds the model, the blocks are its rows. Texts never go through Ray; workers read and write them.

`RAY_ADDRESS` says which cluster to use; without it Ray is started on this machine, for this run alone. On a cluster, input, output
and key ring have to lie where every node finds them under the same path.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from watermark.bulk.blocks import Block
from watermark.bulk.folder import RunFolder
from watermark.bulk.jobs import Job
from watermark.bulk.work import Summary
from watermark.bulk.worker import BlockWorker, Numbered, Part
from watermark.errors import CountersignError

ROWS = 10_000
"""Most pieces that Ray is asked to keep account of; beyond that, it hands out several blocks at a time."""
RETRIES = 3
"""A block is given to another worker so often when its worker dies. What kills them all, a text too long for the memory, would go on
doing so: the run stops, with all other parts done or in reach of the next start."""
STORE_BYTES = 128 * 2**20
"""Ray's shared memory on this machine: next to nothing goes through it."""


def run_on_ray(job: Job, run: RunFolder, *, workers: int | None, gpu: bool, batch_size: int, on_lines: Callable[[int], None]) -> Summary:
    """Do the blocks that `run` does not have yet; `on_lines(done)` is called after each.

    `workers` processes hold the model, by default one on every node, or with `gpu` one for every GPU.
    Raises CountersignError: Ray is not installed, or a worker cannot go on. Broken off, the folder is left ready to be taken up again.
    """
    if to_do := run.to_do():
        with _ray() as ray:
            done = run.resumed
            try:
                for row in _parts(ray, job, run, to_do, _places(ray.nodes(), workers, gpu), gpu, batch_size):
                    if row["fault"]:
                        raise CountersignError(f"A worker stopped: {row['fault']}")
                    part = Part(**{name: row[name] for name in Part.__dataclass_fields__})
                    run.report(part)
                    done += part.lines
                    on_lines(done)
            except ray.exceptions.RayError as error:
                raise CountersignError(f"Ray gave up after {run.lines_there()} of {run.lines} lines: {error}") from error
    return run.finish()


def _parts(
    ray: Any, job: Job, run: RunFolder, to_do: list[Numbered], places: tuple[int, int], gpu: bool, batch_size: int
) -> Iterator[dict[str, Any]]:
    """What `RayWorker` says of each block, as they are done."""
    count, threads = places
    blocks = ray.data.from_items([_row(numbered) for numbered in to_do], override_num_blocks=min(len(to_do), ROWS))
    with warnings.catch_warnings():
        # Ray 2.60 has no other way to say how often a task is tried again, and says that this one will go.
        warnings.simplefilter("ignore", DeprecationWarning)
        parts = blocks.map_batches(
            RayWorker,
            fn_constructor_args=(job.seeded(run.seed), [str(path.absolute()) for path in run.files], str(run.parts.absolute())),
            fn_constructor_kwargs={"batch_size": batch_size},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(count, len(to_do)), max_tasks_in_flight_per_actor=2),
            num_cpus=threads,  # Ray tells torch as well, by OMP_NUM_THREADS
            num_gpus=1 if gpu else None,
            max_task_retries=RETRIES,
        )
    return parts.iter_rows()


class RayWorker:
    """A `BlockWorker` in the form that Ray Data calls. What it raises on purpose travels as a word, not as a traceback of Ray's."""

    def __init__(self, job: Job, files: list[str], parts: str, *, batch_size: int) -> None:
        self._worker, self._fault = None, ""
        try:
            self._worker = BlockWorker(job, [Path(file) for file in files], Path(parts), batch_size)
        except CountersignError as error:
            self._fault = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """One row of `_row` → one part."""
        number, index, *block = (int(batch[name][0]) for name in ("number", "index", *Block.__dataclass_fields__))
        part = Part(number, 0, 0, 0, "")
        try:
            if self._worker:
                part = self._worker.do(Numbered(number, index, Block(*block)))
        except (CountersignError, OSError) as error:
            self._fault = str(error)
        return {name: [value] for name, value in (asdict(part) | {"fault": self._fault}).items()}


def _row(numbered: Numbered) -> dict[str, int]:
    return {"number": numbered.number, "index": numbered.index} | asdict(numbered.block)


@contextlib.contextmanager
def _ray() -> Iterator[Any]:
    """Ray, running and quiet; stopped again where it was started here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a run is told to anybody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its log files have the rest
    try:
        import ray
        import ray.data
    except ImportError:
        raise CountersignError("--engine ray needs Ray: pip install 'countersign[ray]'.") from None
    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS")
        own: dict[str, Any] = {} if address else {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray's, of its own settings
        ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ray prints there when a worker dies, and the result is to be alone
            yield ray
    finally:
        if started:
            ray.shutdown()


def _places(nodes: list[dict[str, Any]], workers: int | None, gpu: bool) -> tuple[int, int]:
    """How many workers, and the CPU threads of each: what the smallest node has, shared among its workers."""
    alive = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    if not alive:
        raise CountersignError("No node of the Ray cluster has a CPU to give.")
    gpus = int(sum(node.get("GPU", 0) for node in alive))
    if gpu and not gpus:
        raise CountersignError("No node of the Ray cluster has a GPU.")
    count = workers or (gpus if gpu else len(alive))
    cores = int(min(node["CPU"] for node in alive))
    return count, max(1, cores // -(-count // len(alive)))
