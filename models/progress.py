"""Progress of slow work, on stderr: bars on a terminal, plain lines otherwise, nothing when switched off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

Advance = Callable[[float], None]
"""Called with the share of the stage that is done, 0 … 1."""


class Stages:
    """Runs named stages one after the other and shows where the work stands.

    `stages` maps a stage's title to its usual length in seconds, which sets its share of the bar.
    """

    def __init__(self, title: str, stages: dict[str, float], *, shown: bool) -> None:
        self.title = title
        self.stages = stages
        self.console = Console(stderr=True, quiet=not shown, highlight=False)
        self._done = 0.0
        self._progress: Progress | None = None  # its first and only task is the bar

    @contextlib.contextmanager
    def running(self) -> Iterator[Stages]:
        start = time.monotonic()
        self.say(self.title)
        if self.console.is_terminal:
            columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
            self._progress = Progress(*columns, console=self.console, transient=True)
            with self._progress:
                self._progress.add_task("", total=sum(self.stages.values()))
                yield self
        else:
            yield self
        self.say(f"Done in {time.monotonic() - start:.0f} s.")

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        weight = self.stages[name]
        if self._progress is None:
            self.say(f"  {name} …")
        else:
            self._progress.update(TaskID(0), description=name)

        def advance(share: float) -> None:
            if self._progress is not None:
                self._progress.update(TaskID(0), completed=self._done + weight * min(share, 1.0))

        yield advance
        advance(1.0)
        self._done += weight

    def say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False)
