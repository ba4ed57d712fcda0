"""The loop behind every `--out` command: read lines, work in batches, write one record per line, report the bad ones."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from watermark.bulk.lines import error_record, field_of
from watermark.bulk.work import OnStep, Summary, TextWork
from watermark.cli.jsonlines import LinesFile, LinesOutput
from watermark.errors import InvalidInput

T = TypeVar("T")
PLAIN_SECONDS = 30.0
"""Without a terminal, one plain line at most this often."""


def run_batches(source: LinesFile, output: LinesOutput, job: TextWork[T], batch_size: int) -> Summary:
    """Do the lines that `output` does not have yet. Broken off, it leaves `output` ready to be taken up again."""
    resumed, bad, place = output.done, output.bad, output.done
    with progress(job.title, resumed, source.count) as show:
        if resumed:
            show.say(f"{job.title}: going on after {resumed} of {source.count} lines done before")
        try:
            for lines in _batches(source, resumed, job, batch_size):
                items = [item for _, item in lines if not isinstance(item, InvalidInput)]
                results = iter(job.work(items, show.within(place, len(items))) if items else ())
                records = []
                for index, item in lines:
                    if isinstance(item, InvalidInput):
                        bad += 1
                        show.say(f"line {index + 1}: {item}")
                        records.append(error_record(item, index + 1))
                    else:
                        records.append(next(results))
                output.write(records)
                place += len(records)
                show.at(place)
        except BaseException:
            show.say(f"{job.title}: stopped after {place} of {source.count} lines; the same command again goes on from there")
            raise
    output.finish()
    return Summary(place, bad, resumed, str(output.path))


def _batches(source: LinesFile, start: int, job: TextWork[T], batch_size: int) -> Iterator[list[tuple[int, T | InvalidInput]]]:
    """Runs of consecutive lines with at most `batch_size` good ones, each line as its item or as what is wrong with it."""
    lines: list[tuple[int, T | InvalidInput]] = []
    good = 0
    for index, raw in source:
        if index < start:
            continue
        try:
            lines.append((index, job.read(index, field_of(raw, job.field))))
            good += 1
        except InvalidInput as error:
            lines.append((index, error))
        if good == batch_size or len(lines) == 64 * batch_size:
            yield lines
            lines, good = [], 0
    if lines:
        yield lines


class Show:
    """A bar on a terminal, now and then a plain line elsewhere."""

    def __init__(self, title: str, start: int, total: int, bar: Progress | None) -> None:
        self._title, self._total, self._bar = title, total, bar
        self._task = bar.add_task(title, total=total, completed=start) if bar else None
        self._next = time.monotonic() + PLAIN_SECONDS

    def at(self, place: float) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=int(place))
        elif time.monotonic() >= self._next:
            self.say(f"{self._title}: {int(place)} of {self._total} lines")
            self._next = time.monotonic() + PLAIN_SECONDS

    def within(self, place: int, lines: int) -> OnStep:
        """Progress inside a batch of `lines` that begins at `place`."""
        return lambda done, total: self.at(place + lines * done / max(total, 1))

    def say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(title: str, start: int, total: int) -> Iterator[Show]:
    """Shows how many of `total` lines are done."""
    if not sys.stderr.isatty():
        yield Show(title, start, total, None)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Show(title, start, total, bar)
