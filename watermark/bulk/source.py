"""The input of a run: one file, or the files of a folder, all of which are read in the order of their names."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from watermark.bulk.blocks import Block, LinesReader, cut_lines
from watermark.bulk.lines import BadLine
from watermark.bulk.parquet import RowsReader, cut_rows
from watermark.errors import InvalidInput

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
"""Of the files that are taken from a folder. A file that is named itself is JSON lines unless it ends with .parquet or .gz."""


def input_files(path: Path) -> list[Path]:
    """Raises InvalidInput."""
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(ENDINGS))
        if not found:
            raise InvalidInput(f"There is no {', '.join(ENDINGS)} file in {path}.")
        return found
    if not path.is_file():
        raise InvalidInput(f"Cannot read {path}: {'it is no regular file' if path.exists() else 'No such file or directory'}.")
    return [path]


def cut(path: Path, file: int, field: str, block_lines: int) -> list[Block]:
    """The blocks of one file. Raises InvalidInput where it cannot be read at all; single bad lines are no hindrance."""
    try:
        return cut_rows(path, file, field, block_lines) if _is_parquet(path) else cut_lines(path, file, block_lines)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from None


def digest(path: Path) -> str:
    """SHA-256 of the file as it lies there. Raises InvalidInput."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {error.strerror}.") from None


class Reader:
    """Texts of blocks of several files. Keeps the last file open, since the next block is most likely of the same."""

    def __init__(self, files: Sequence[Path], field: str) -> None:
        self._files, self._field = files, field
        self._open: tuple[int, LinesReader | RowsReader] | None = None

    def texts(self, block: Block) -> Iterator[str | BadLine]:
        """The text of each line of a block, or what is wrong with it."""
        if self._open is None or self._open[0] != block.file:
            self.close()
            path = self._files[block.file]
            self._open = block.file, (RowsReader if _is_parquet(path) else LinesReader)(path, self._field)
        return self._open[1].texts(block)

    def close(self) -> None:
        if self._open:
            self._open[1].close()
        self._open = None


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet"
