"""JSON lines in and out. One line in is one line out, in order; a run that was broken off goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from watermark.bulk.lines import ERROR, Record, written
from watermark.errors import InvalidInput
from watermark.folders import lock


class LinesFile:
    """An input of JSON lines: its length and digest at once, its lines one by one."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput when the file cannot be read."""
        self.path = path
        self._content: bytes | None = None
        self.count = 0
        """Lines up to the last one that is not blank; blank lines in between count, and are bad."""
        digest = hashlib.sha256()
        try:
            if not path.is_file():
                self._content = path.read_bytes()  # a pipe gives its lines only once
            with self._open() as file:
                for number, raw in enumerate(file, start=1):
                    digest.update(raw)
                    if raw.strip():
                        self.count = number
        except OSError as error:
            raise InvalidInput(f"Cannot read {path}: {error.strerror}.") from None
        self.sha256 = digest.hexdigest()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(index from 0, line without its end)."""
        with self._open() as file:
            for index, raw in enumerate(itertools.islice(file, self.count)):
                yield index, raw.rstrip(b"\r\n")

    def _open(self) -> BinaryIO:
        return self.path.open("rb") if self._content is None else io.BytesIO(self._content)


class LinesOutput:
    """`path`, written as `path.partial` and renamed when complete.

    `path.partial.run` says which arguments the partial file belongs to. A new run with the same ones keeps its whole lines.
    Used in a `with` block, which closes the file; only `finish` gives it its name.
    """

    def __init__(self, path: Path, arguments: Record) -> None:
        """Opens for writing. Raises InvalidInput when a partial file of another run is in the way, or it cannot be written."""
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.header = path.with_name(f"{path.name}.partial.run")
        self.done = 0
        """Lines kept from an earlier run."""
        self.bad = 0
        """Those among them that stand for a bad line."""
        try:
            self._file = self._open(hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest())
        except OSError as error:
            raise InvalidInput(f"Cannot write {self.partial}: {error.strerror}.") from None

    def write(self, records: Iterable[Record]) -> None:
        """Whole lines, on their way to the disk when this returns."""
        for record in records:
            self._file.write(written(record))
        self._file.flush()

    def finish(self) -> None:
        """Give the complete file its name, replacing an earlier one."""
        os.fsync(self._file.fileno())
        self.partial.replace(self.path)
        self.header.unlink(missing_ok=True)

    def __enter__(self) -> LinesOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _open(self, run: str) -> BinaryIO:
        file = self.partial.open("a+b")
        lock(file, self.partial)
        file.seek(0)
        end = 0
        for raw in file:
            if not raw.endswith(b"\n"):
                break
            self.done, self.bad, end = self.done + 1, self.bad + raw.startswith(ERROR), end + len(raw)
        if self.done and self._recorded_run() != run:
            file.close()
            raise InvalidInput(
                f"{self.partial} is the unfinished output of a run with other arguments or another input. "
                "Repeat that run to finish it, delete the file, or choose another --out."
            )
        file.truncate(end)  # half a line is left when a process dies while writing
        if not self.done:
            self.header.write_text(run + "\n", encoding="ascii")
        return file

    def _recorded_run(self) -> str | None:
        with contextlib.suppress(OSError, ValueError):
            return self.header.read_text(encoding="ascii").strip()
        return None
