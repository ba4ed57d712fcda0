"""Blocks of lines: pieces of an input that are read by themselves, in any process.

JSON lines, plain or gzipped, are cut at byte offsets. A compressed stream can only be read forwards: a reader that gets its blocks in
rising order goes through the file once, whoever reads the blocks in between.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from watermark.bulk.lines import BadLine, field_of

BLOCK_BYTES = 8 * 2**20
"""A block ends at this size even if it has few lines, so that memory has a bound. A longer line is a block of its own."""


@dataclass(frozen=True)
class Block:
    """Consecutive lines of one file."""

    file: int
    """Which of the run's files."""
    first: int
    """Lines of that file before it."""
    lines: int
    offset: int
    """Bytes before it, uncompressed; row group in Parquet."""


def open_lines(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def cut_lines(path: Path, file: int, block_lines: int, block_bytes: int = BLOCK_BYTES) -> list[Block]:
    """The blocks of JSON lines, up to the last line that is not blank. Raises OSError, EOFError and zlib.error."""
    with open_lines(path) as lines:
        return _cut(lines, file, block_lines, block_bytes)


def _cut(lines: Iterable[bytes], file: int, block_lines: int, block_bytes: int) -> list[Block]:
    blocks: list[Block] = []
    block = Block(file, 0, 0, 0)
    end = position = 0
    for number, raw in enumerate(lines, start=1):
        if block.lines and (block.lines == block_lines or position - block.offset + len(raw) > block_bytes):
            blocks.append(block)
            block = Block(file, number - 1, 0, position)
        block = replace(block, lines=block.lines + 1)
        position += len(raw)
        if not raw.isspace():
            end = number
    return [replace(block, lines=min(block.lines, end - block.first)) for block in (*blocks, block) if block.first < end]


class LinesReader:
    """Blocks of one file of JSON lines; stays open between them."""

    def __init__(self, path: Path, field: str) -> None:
        self._file, self._field = open_lines(path), field

    def texts(self, block: Block) -> Iterator[str | BadLine]:
        """The text of each line of a block, or what is wrong with it."""
        self._file.seek(block.offset)
        for raw in itertools.islice(self._file, block.lines):
            try:
                yield field_of(raw.rstrip(b"\r\n"), self._field)
            except BadLine as error:
                yield error

    def close(self) -> None:
        self._file.close()
