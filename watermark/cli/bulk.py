"""`--engine ray` of verify and generate: many workers on one machine or on a cluster."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from watermark.bulk.engine import run_on_ray
from watermark.bulk.folder import RunFolder
from watermark.bulk.jobs import Job
from watermark.bulk.source import input_files
from watermark.bulk.work import Summary
from watermark.cli.batches import progress
from watermark.errors import InvalidInput

BLOCK_LINES = 1000
DEVICES = ("cpu", "cuda")


class Engine(StrEnum):
    local = "local"
    ray = "ray"


EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="ray: Ray Data, on this machine or the cluster of RAY_ADDRESS. The input may then be .jsonl, .jsonl.gz, .parquet or a folder "
        "of them, and --out is a folder of parts with a manifest. Needs the extra `ray`.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="With --engine ray: processes that hold the model. [default: one for each node; with cuda, for each GPU]"
    ),
]
BlockLinesOption = Annotated[
    int | None,
    typer.Option(
        "--block-lines",
        min=1,
        metavar="N",
        help="With --engine ray: lines of a part, which is what a killed worker loses. Raise it for very large inputs. "
        f"[default: {BLOCK_LINES}]",
    ),
]


def check_engine(engine: Engine, files: tuple[Path, Path] | None, workers: int | None, block_lines: int | None, device: str) -> None:
    """Raises InvalidInput for options that do not go together."""
    if engine is Engine.local:
        if workers is not None or block_lines is not None:
            raise InvalidInput("--workers and --block-lines go with --engine ray.")
        if files and (files[0].is_dir() or files[0].suffix in (".gz", ".parquet")):
            raise InvalidInput(f"{files[0]}: folders, .gz and .parquet need --engine ray.")
    elif files is None:
        raise InvalidInput("--engine ray is for files: give an input and --out.")
    elif device not in DEVICES:
        raise InvalidInput(f"With --engine ray, --device is cpu, or cuda for a GPU to each worker; got {device!r}.")


def run_bulk(job: Job, files: tuple[Path, Path], workers: int | None, block_lines: int | None, device: str, batch_size: int) -> Summary:
    """Work through the input on Ray, or go on where an earlier run stopped."""
    run = RunFolder(files[1], input_files(files[0]), job.field, job.arguments(), block_lines or BLOCK_LINES)
    with run, progress(job.title, run.resumed, run.lines) as show:
        if run.resumed:
            show.say(f"{job.title}: going on after {run.resumed} of {run.lines} lines done before")
        try:
            return run_on_ray(job, run, workers=workers, gpu=device == "cuda", batch_size=batch_size, on_lines=show.at)
        except BaseException:
            show.say(f"{job.title}: stopped after {run.lines_there()} of {run.lines} lines; the same command again goes on from there")
            raise
