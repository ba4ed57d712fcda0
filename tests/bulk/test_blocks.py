"""However an input is cut, its blocks together are its lines, each once and in order."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watermark.bulk.blocks import Block, LinesReader, cut_lines
from watermark.bulk.lines import BadLine, field_of
from watermark.bulk.source import Reader, cut, input_files
from watermark.cli.jsonlines import LinesFile
from watermark.errors import InvalidInput

LINES = st.lists(
    st.one_of(
        st.text(max_size=30).map(lambda text: json.dumps({"text": text}).encode()), st.sampled_from([b"", b"  ", b"\xff", b"nonsense"])
    ),
    max_size=30,
)
WORDS = [f"text {i} " + "x" * (i % 11) for i in range(100)]


def shown(texts) -> list[str]:
    return [f"bad: {text.code} {text}" if isinstance(text, BadLine) else text for text in texts]


def as_the_plain_command_reads(path: Path) -> list[str]:
    found = []
    for _, raw in LinesFile(path):
        try:
            found.append(field_of(raw, "text"))
        except BadLine as error:
            found.append(error)
    return shown(found)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, ending=st.sampled_from([b"\n", b"\r\n"]), last=st.booleans(), most=st.integers(1, 7), size=st.integers(1, 200))
def test_blocks_of_lines_are_the_lines(tmp_path: Path, lines: list[bytes], ending: bytes, last: bool, most: int, size: int) -> None:
    content = ending.join(lines) + (ending if last else b"")
    plain, packed = tmp_path / "in.jsonl", tmp_path / "in.jsonl.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    blocks = cut_lines(plain, 0, most, size)
    assert blocks == cut_lines(packed, 0, most, size)
    assert all(1 <= block.lines <= most for block in blocks)
    assert [block.first for block in blocks] == [sum(b.lines for b in blocks[:i]) for i in range(len(blocks))]
    expected = as_the_plain_command_reads(plain)
    order = list(range(len(blocks)))
    random.Random(most).shuffle(order)
    for path in (plain, packed):
        reader = LinesReader(path, "text")
        read = {i: shown(reader.texts(blocks[i])) for i in order}
        reader.close()
        assert [text for i in range(len(blocks)) for text in read[i]] == expected


def test_a_block_has_a_size_too(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * size}) + "\n" for size in (10, 10, 1000, 10, 10)))
    assert [block.lines for block in cut_lines(path, 0, 100, 100)] == [2, 1, 2]


def test_blocks_of_rows_are_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    values = [None if i % 13 == 0 else word for i, word in enumerate(WORDS)]
    pq.write_table(pa.table({"other": range(100), "text": values}), path, row_group_size=37)
    expected = ["bad: invalid_type 'text' must be a string, not NoneType" if value is None else value for value in values]
    blocks = cut(path, 0, "text", 10)
    assert [block.lines for block in blocks] == [10, 10, 10, 7] * 2 + [10, 10, 6]
    for order in (range(len(blocks)), random.Random(1).sample(range(len(blocks)), len(blocks)), range(0, len(blocks), 3)):
        reader = Reader([path], "text")
        for i in order:
            block = blocks[i]
            assert shown(reader.texts(block)) == expected[block.first : block.first + block.lines]
        reader.close()


def test_parquet_without_texts_says_so(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"body": ["a"], "text": [1]}), path)
    for field, words in {"prompt": "no column 'prompt'; there are: body, text", "text": "must hold strings, not int64"}.items():
        with pytest.raises(InvalidInput, match=words):
            cut(path, 0, field, 10)
    path.write_bytes(b"no Parquet")
    with pytest.raises(InvalidInput, match="is no Parquet file"):
        cut(path, 0, "text", 10)


def test_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl.gz", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in input_files(tmp_path)] == ["a.jsonl.gz", "b.jsonl"]
    (tmp_path / "empty").mkdir()
    for path, words in {tmp_path / "empty": "There is no", tmp_path / "none": "No such file"}.items():
        with pytest.raises(InvalidInput, match=words):
            input_files(path)


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"{}\n" * 1000)[:-20], gzip.compress(b"{}\n" * 1000).replace(b"\x00", b"\x01")]
)
def test_a_damaged_file_is_refused_before_anything_is_done(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="Cannot read"):
        cut(path, 0, "text", 10)


def test_a_reader_goes_from_file_to_file(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"]
    files[0].write_text('{"text": "one"}\n')
    files[1].write_bytes(gzip.compress(b'{"text": "two"}\n'))
    reader = Reader(files, "text")
    blocks = [block for i, file in enumerate(files) for block in cut(file, i, "text", 5)]
    assert blocks == [Block(0, 0, 1, 0), Block(1, 0, 1, 0)]
    assert [list(reader.texts(blocks[i])) for i in (0, 1, 0)] == [["one"], ["two"], ["one"]]
    reader.close()
