"""What a worker does: hold the model, and turn one block after the other into a part."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watermark.bulk.blocks import Block
from watermark.bulk.jobs import Job
from watermark.bulk.lines import ERROR, Record, error_record, written
from watermark.bulk.source import Reader
from watermark.bulk.work import TextWork
from watermark.errors import CountersignError, InvalidInput


@dataclass(frozen=True)
class Part:
    """A finished block, as the manifest has it."""

    block: int
    lines: int
    errors: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Numbered:
    """A block and its place in the whole input."""

    number: int
    index: int
    """Lines before it in all files."""
    block: Block


def part_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.jsonl"


class BlockWorker:
    """One per process. Reads `files`, writes into the folder `parts`."""

    def __init__(self, job: Job, files: Sequence[Path], parts: Path, batch_size: int) -> None:
        """Raises what loading the model and the keys raises."""
        self.work: TextWork[Any] = job.start()
        self._files, self._reader = files, Reader(files, self.work.field)
        self._parts, self._batch_size = parts, batch_size

    def do(self, numbered: Numbered) -> Part:
        """Work through a block. Raises OSError when it cannot be read or written, CountersignError when the input has changed."""
        return write_part(part_path(self._parts, numbered.number), numbered.number, self._records(numbered))

    def _records(self, numbered: Numbered) -> list[Record]:
        """One per line, in order. Within the block texts of like length are worked on together, so that little is padded."""
        block = numbered.block
        name = self._files[block.file].name if len(self._files) > 1 else None
        records: list[Record] = [{}] * block.lines
        items: list[tuple[int, int, Any]] = []
        texts = list(self._reader.texts(block))
        if len(texts) != block.lines:
            raise CountersignError(f"{self._files[block.file]} has changed since this run began.")
        for place, text in enumerate(texts):
            try:
                if isinstance(text, InvalidInput):
                    raise text
                items.append((len(text), place, self.work.read(numbered.index + place, text)))
            except InvalidInput as error:
                records[place] = error_record(error, block.first + place + 1, name)
        items.sort(key=lambda item: item[:2])
        for start in range(0, len(items), self._batch_size):
            batch = items[start : start + self._batch_size]
            found = self.work.work([item for *_, item in batch], lambda done, most: None)
            for (_, place, _), record in zip(batch, found, strict=True):
                records[place] = record
        return records


def write_part(path: Path, number: int, records: Sequence[Record]) -> Part:
    """Complete on the disk under its name, or not there. Two workers that write the same part do not disturb each other."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("wb") as file:
            for record in records:
                file.write(written(record))
            file.flush()
            os.fsync(file.fileno())
        part = inspect_part(temporary, number)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return part


def inspect_part(path: Path, number: int) -> Part:
    """What is in a part file. Raises OSError."""
    sha256 = hashlib.sha256()
    lines = errors = size = 0
    with path.open("rb") as file:
        for raw in file:
            sha256.update(raw)
            lines, errors, size = lines + raw.endswith(b"\n"), errors + raw.startswith(ERROR), size + len(raw)
    return Part(number, lines, errors, size, sha256.hexdigest())
