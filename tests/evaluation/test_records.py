from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.fakes import fake_lm
from watermark.errors import InvalidInput
from watermark.evaluation.records import Prompt, draw_prompts, first_tokens, last_tokens, read_passages, read_prompts


def write(path: Path, records: list[object]) -> Path:
    content = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_prompts_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    long = {"prompt": "one two three four five ", "human": "six", "source": "books"}
    path = write(tmp_path / name, [long, {"prompt": "too short", "human": ""}, {"prompt": "no human text in this one"}])
    assert read_prompts(path) == [Prompt("one two three four five", "six", "books"), Prompt("no human text in this one", "", "a")]


@pytest.mark.parametrize(
    "content,message",
    [
        (b'{"prompt": 3}\n', "record 1"),
        (b'{"prompt": "a b c d e"}\n{oops}\n', "line 2"),
        (b"[1]\n", "line 1: expected a JSON object"),
        (b'{"prompt": "a b"}\n', "no prompt of at least 5 words"),
        (b"\xff\xfe\n", "UTF-8"),
    ],
)
def test_bad_prompt_files_are_named_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_prompts(path)
    assert "bad.jsonl" in str(caught.value)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Cannot read"):
        read_passages(tmp_path / "none.jsonl")
    (tmp_path / "plain.jsonl.gz").write_text("{}")
    with pytest.raises(InvalidInput, match="Cannot read"):
        read_passages(tmp_path / "plain.jsonl.gz")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:-9])
    with pytest.raises(InvalidInput, match="Cannot read"):
        read_passages(tmp_path / "cut.jsonl.gz")


def test_drawing_takes_turns_and_longer_draws_begin_with_shorter_ones() -> None:
    sets = [[Prompt(f"{name}{i}", "", name) for i in range(size)] for name, size in (("a", 30), ("b", 3), ("c", 30))]
    drawn = draw_prompts(sets, 20, seed=1)
    assert [p.source for p in drawn[:9]] == ["a", "b", "c"] * 3
    assert [p.source for p in drawn[9:13]] == ["a", "c", "a", "c"]
    assert len({p.text for p in drawn}) == 20
    assert draw_prompts(sets, 7, seed=1) == drawn[:7]
    assert draw_prompts(sets, 20, seed=2) != drawn
    assert len(draw_prompts(sets, 1000, seed=1)) == 63


def test_cutting_by_tokens() -> None:
    lm, text = fake_lm(), "the rain in Spain stays mainly in the plain"
    tokens = lm.tokenize(text)
    total = len(tokens.ids) - tokens.prefix
    assert last_tokens(lm, text, total) == text and first_tokens(lm, text, total) == text
    assert first_tokens(lm, text, total + 1) is None
    end, beginning = last_tokens(lm, text, 7), first_tokens(lm, text, 7)
    assert beginning is not None and text.endswith(end) and text.startswith(beginning) and 0 < len(end) < len(text)
    for part in (end, beginning):
        again = lm.tokenize(part)
        assert len(again.ids) - again.prefix == 7
