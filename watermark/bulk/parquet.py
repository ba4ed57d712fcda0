"""Parquet files in blocks of rows. A block never crosses a row group; within one, pages are read forwards, as a gzipped file is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from watermark.bulk.blocks import BLOCK_BYTES, Block
from watermark.bulk.lines import BadLine, text_of
from watermark.errors import CountersignError, InvalidInput

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ROWS = 256
"""Rows decoded at a time."""
BUFFER = 2**20
"""Bytes read at a time; without it, the column of a whole row group would be."""


def cut_rows(path: Path, file: int, field: str, block_lines: int, block_bytes: int = BLOCK_BYTES) -> list[Block]:
    """The blocks of a Parquet file. Raises OSError, and InvalidInput when it is none or has no text column `field`."""
    with _open(path) as rows:
        column = _column(rows, path, field)
        blocks: list[Block] = []
        first = 0
        for group in range(rows.metadata.num_row_groups):
            size = rows.metadata.row_group(group).num_rows
            content = rows.metadata.row_group(group).column(column).total_uncompressed_size
            most = max(1, min(block_lines, block_bytes * size // max(content, 1)))
            blocks += [Block(file, first + start, min(most, size - start), group) for start in range(0, size, most)]
            first += size
        return blocks


class RowsReader:
    """Blocks of one Parquet file; goes on where it is when a block lies ahead in the same row group."""

    def __init__(self, path: Path, field: str) -> None:
        self._file, self._field = _open(path), field
        self._group, self._at, self._values = -1, 0, iter(())

    def texts(self, block: Block) -> Iterator[str | BadLine]:
        """The text of each row of a block, or what is wrong with it."""
        if block.offset != self._group or block.first < self._at:
            self._group, self._at = block.offset, sum(self._file.metadata.row_group(g).num_rows for g in range(block.offset))
            self._values = self._rows(block.offset)
        for _ in itertools.islice(self._values, block.first - self._at):
            pass
        self._at = block.first + block.lines
        for value in itertools.islice(self._values, block.lines):
            try:
                yield text_of(value.as_py(), self._field)
            except BadLine as error:
                yield error

    def _rows(self, group: int) -> Iterator:
        for batch in self._file.iter_batches(ROWS, row_groups=[group], columns=[self._field]):
            yield from batch.column(0)

    def close(self) -> None:
        self._file.close()


def _open(path: Path) -> ParquetFile:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise CountersignError("Parquet needs pyarrow, which comes with the extra: pip install 'countersign[ray]'.") from None
    try:
        return ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
    except ArrowException as error:
        raise InvalidInput(f"{path} is no Parquet file: {error}.") from None


def _column(rows: ParquetFile, path: Path, field: str) -> int:
    """Index of the leaf column `field`."""
    import pyarrow as pa

    schema = rows.schema_arrow
    if field not in schema.names:
        raise InvalidInput(f"{path} has no column {field!r}; there are: {', '.join(schema.names) or 'none'}.")
    kind = schema.field(field).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InvalidInput(f"{path}: column {field!r} must hold strings, not {kind}.")
    return next(i for i in range(rows.metadata.num_columns) if rows.schema.column(i).path == field)
