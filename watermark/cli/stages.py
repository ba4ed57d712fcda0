"""Progress of long work that goes through stages: a bar for each on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from watermark.cli.common import note

PLAIN_SECONDS = 30.0

Advance = Callable[..., None]
"""(stage, done, total, words shown beside the bar = "")."""


@contextlib.contextmanager
def stage_bars(shown: bool = True) -> Iterator[Advance]:
    """Yields the function that the work calls as it goes on; it does nothing unless `shown`."""
    if not shown:
        yield lambda *progress: None
        return
    if not sys.stderr.isatty():
        last: dict[str, float] = {}

        def plain(stage: str, done: float, total: float, words: str = "") -> None:
            if time.monotonic() - last.get(stage, 0.0) >= PLAIN_SECONDS or done == total:
                last[stage] = time.monotonic()
                note(f"{stage}: {int(done)} of {int(total)} {words}".rstrip())

        yield plain
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[words]}"), console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: float, total: float, words: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, words="")
            bar.update(tasks[stage], completed=done, total=total, words=words)

        yield advance
