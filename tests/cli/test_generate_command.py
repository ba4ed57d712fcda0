"""`countersign generate`, one prompt and many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes import fake_watermarked_model
from watermark.bulk.work import line_seed
from watermark.cli import common
from watermark.cli.jsonlines import LinesOutput

PROMPTS = ["Once upon", "a time", "x", "", "The end", "of it", "A longer prompt with some more words in it", "z" * 100]
MARKING = ["watermark", "issuer", "payload", "tokens", "marked_tokens", "p_value", "reason"]


@pytest.fixture(autouse=True)
def key(run: Run) -> None:
    assert run("keys", "create", "demo", "--payload-bits", 4).exit_code == 0


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return path


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def batch(run: Run, lines: Path, out: Path, *more: object):
    return run("generate", "--prompts", lines, "--out", out, "--max-new-tokens", 20, "--seed", 5, *more)


def test_one_prompt(run: Run, loads: list) -> None:
    result = run("generate", "Hello", "--max-new-tokens", 60, "--min-new-tokens", 60, "--seed", 3)
    assert result.exit_code == 0 and result.stdout.strip() and "seed 3" in result.stderr
    again = run("generate", "-", "--max-new-tokens", 60, "--min-new-tokens", 60, "--seed", 3, "--json", stdin="Hello")
    record = json.loads(again.stdout)
    assert record["text"] + "\n" == result.stdout and record["prompt"] == "Hello" and record["seed"] == 3
    assert list(record["marking"]) == MARKING and record["marking"]["issuer"] == "demo"
    assert record["marking"]["tokens"] == 60 and record["marking"]["payload"] == "0"
    assert loads == [(None, None, "cpu", "auto")] * 2


def test_unmarked_text_has_no_issuer_and_needs_no_key(run: Run, tmp_path: Path) -> None:
    plain = run("generate", "Hello", "--no-watermark", "--max-new-tokens", 40, "--seed", 3, "--json", "--keys", tmp_path / "none")
    off = run("generate", "Hello", "--strength", 0, "--max-new-tokens", 40, "--seed", 3, "--json")
    marked = run("generate", "Hello", "--max-new-tokens", 40, "--seed", 3, "--json")
    plain, off, marked = (json.loads(result.stdout) for result in (plain, off, marked))
    assert plain["marking"]["watermark"] is False and plain["marking"]["issuer"] is None and plain["marking"]["reason"]
    assert plain["text"] == off["text"] != marked["text"]


def test_batch_writes_a_record_per_line_in_order(run: Run, lines: Path, tmp_path: Path) -> None:
    result = batch(run, lines, tmp_path / "out.jsonl", "--batch-size", 3)
    assert result.exit_code == 0 and result.stdout == "" and "8 lines" in result.stderr
    out = records(tmp_path / "out.jsonl")
    assert [record["prompt"] for record in out] == PROMPTS
    assert all(list(record) == ["prompt", "text", "marking"] and list(record["marking"]) == MARKING for record in out)
    assert not any(record["text"].startswith(record["prompt"]) for record in out if record["prompt"])  # the continuation only
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["in.jsonl", "out.jsonl"]


def test_results_do_not_depend_on_the_batch_size_or_the_neighbours(run: Run, lines: Path, tmp_path: Path) -> None:
    outs = []
    for size in (1, 3, 16):
        assert batch(run, lines, tmp_path / f"{size}.jsonl", "--batch-size", size).exit_code == 0
        outs.append([record["text"] for record in records(tmp_path / f"{size}.jsonl")])
    assert outs[0] == outs[1] == outs[2]
    single = run("generate", PROMPTS[4], "--max-new-tokens", 20, "--seed", line_seed(5, 4), "--json")
    assert json.loads(single.stdout)["text"] == outs[0][4]
    assert len({line_seed(seed, index) for seed in range(20) for index in range(50)}) == 1000


def test_json_summary(run: Run, lines: Path, tmp_path: Path) -> None:
    result = batch(run, lines, tmp_path / "out.jsonl", "--json")
    assert json.loads(result.stdout) == {"lines": 8, "errors": 0, "resumed": 0, "out": str(tmp_path / "out.jsonl")}


BAD = [
    (b"{not json", "invalid_json"),
    (b"", "invalid_json"),
    (b"\xff\xfe", "invalid_json"),
    (b"[1, 2]", "invalid_type"),
    (b'"text"', "invalid_type"),
    (b'{"text": "x"}', "missing_key"),
    (b'{"prompt": 3}', "invalid_type"),
    (b'{"prompt": null}', "invalid_type"),
    (rb'{"prompt": "\ud800"}', "invalid_text"),
    (b'{"prompt": "' + b"long " * 200 + b'"}', "prompt_too_long"),
    (b"[" * 100_000, "invalid_json"),
]


def test_bad_lines_are_reported_in_place_and_the_others_done(run: Run, lines: Path, tmp_path: Path) -> None:
    good = b'{"prompt": "Hello"}'
    content = [line for bad, _ in BAD for line in (good, bad)] + [good]
    lines.write_bytes(b"\n".join(content))
    result = batch(run, lines, tmp_path / "out.jsonl", "--batch-size", 4)
    assert result.exit_code == 1 and f"{len(content)} lines" in result.stderr and f"{len(BAD)} of them errors" in result.stderr
    out = records(tmp_path / "out.jsonl")
    assert len(out) == len(content)
    for i, record in enumerate(out):
        if i % 2:
            error = record["error"]
            assert list(record) == ["error"] and list(error) == ["code", "message", "line"]
            assert (error["code"], error["line"]) == (BAD[i // 2][1], i + 1) and error["message"]
            assert f"line {i + 1}: {error['message']}\n" in result.stderr
        else:
            assert record["prompt"] == "Hello" and record["text"]
    # A good line's text does not depend on the bad ones around it.
    assert (
        out[2]["text"] == json.loads(run("generate", "Hello", "--max-new-tokens", 20, "--seed", line_seed(5, 2), "--json").stdout)["text"]
    )


def test_windows_lines_a_mark_at_the_front_and_blank_lines_at_the_end(run: Run, lines: Path, tmp_path: Path) -> None:
    lines.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n{"prompt": "b"}\r\n\r\n\n')
    assert batch(run, lines, tmp_path / "out.jsonl").exit_code == 0
    assert [record["prompt"] for record in records(tmp_path / "out.jsonl")] == ["a", "b"]


def test_an_empty_file_is_an_empty_result(run: Run, lines: Path, tmp_path: Path) -> None:
    lines.write_bytes(b"")
    assert batch(run, lines, tmp_path / "out.jsonl").exit_code == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""


class Stopping:
    """The fake model, stopped by a person in the third batch."""

    def __init__(self) -> None:
        self.model, self.batches = fake_watermarked_model(), 0

    def check(self, request: object) -> None:
        self.model.check(request)  # type: ignore[arg-type]

    def generate(self, requests: list, **options: object) -> list:
        self.batches += 1
        if self.batches == 3:
            raise KeyboardInterrupt
        return self.model.generate(requests, **options)  # type: ignore[arg-type]


def test_an_interrupted_run_resumes(run: Run, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lines.read_bytes().splitlines()
    lines.write_bytes(b"\n".join([whole[0], b"bad", *whole[1:]]) + b"\n")
    assert batch(run, lines, tmp_path / "expected.jsonl", "--batch-size", 2).exit_code == 1
    out, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    out.write_text("an earlier result\n")

    with monkeypatch.context() as patched:
        patched.setattr(common, "load_model", lambda *_: Stopping())
        stopped = batch(run, lines, out, "--batch-size", 2)
    assert stopped.exit_code == 130 and "interrupted" in stopped.stderr and "stopped after 5 of 9 lines" in stopped.stderr
    assert len(records(partial)) == 5 and out.read_text() == "an earlier result\n"

    other = batch(run, lines, out, "--temperature", 0.5)
    assert other.exit_code == 2 and "other arguments" in other.stderr and len(records(partial)) == 5

    with partial.open("ab") as file:
        file.write(b'{"prompt": "half a li')  # as a process leaves it that dies while writing
    resumed = batch(run, lines, out, "--batch-size", 3, "--json")
    assert resumed.exit_code == 1  # a line was bad, although before the interruption
    assert json.loads(resumed.stdout) == {"lines": 9, "errors": 1, "resumed": 5, "out": str(out)}
    # Everything but the last digits of a p-value: evidence is rounded to half precision, and which way may hang on the batch.
    ours, theirs = records(out), records(tmp_path / "expected.jsonl")
    p_values = [[record["marking"].pop("p_value") for record in rows if "marking" in record] for rows in (ours, theirs)]
    assert ours == theirs and p_values[0] == pytest.approx(p_values[1], rel=1e-2)
    assert not partial.exists() and not partial.with_name("out.jsonl.partial.run").exists()


def test_a_changed_input_is_not_resumed(run: Run, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(common, "load_model", lambda *_: Stopping())
        assert batch(run, lines, tmp_path / "out.jsonl", "--batch-size", 2).exit_code == 130
    lines.write_text(lines.read_text().replace("Once", "Twice"))
    result = batch(run, lines, tmp_path / "out.jsonl")
    assert result.exit_code == 2 and "another input" in result.stderr


def test_a_run_that_did_nothing_yet_does_not_stand_in_the_way(
    run: Run, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_model(*_: object) -> None:
        raise OSError(28, "No space left on device", "weights")

    with monkeypatch.context() as patched:
        patched.setattr(common, "load_model", no_model)
        failed = batch(run, lines, tmp_path / "out.jsonl")
    assert failed.exit_code == 1 and failed.stderr == "error: cannot use weights: No space left on device\n"
    assert batch(run, lines, tmp_path / "out.jsonl", "--temperature", 0.5).exit_code == 0


def test_two_runs_do_not_write_one_file(run: Run, lines: Path, tmp_path: Path) -> None:
    with LinesOutput(tmp_path / "out.jsonl", {"command": "another run, still going"}):
        result = batch(run, lines, tmp_path / "out.jsonl")
    assert result.exit_code == 2 and "Another process is writing" in result.stderr
    assert batch(run, lines, tmp_path / "out.jsonl").exit_code == 0


def test_payload_is_written(run: Run) -> None:
    result = run("generate", "Hello", "--payload", "0xB", "--max-new-tokens", 30, "--json")
    assert json.loads(result.stdout)["marking"]["payload"] == "b"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give prompt"),
        (("x", "--prompts", "IN", "--out", "OUT"), "not both"),
        (("--prompts", "IN"), "needs --out"),
        (("x", "--out", "OUT"), "--out goes with --prompts"),
        (("--prompts", "IN", "--out", "IN"), "the same file"),
        (("--prompts", "no-such-file", "--out", "OUT"), "Cannot read no-such-file: No such file"),
        (("--prompts", "IN", "--out", "no/such/folder/out"), "Cannot write no/such/folder/out.partial: No such file"),
        (("x", "--temperature", "nan"), "temperature"),
        (("x", "--temperature", "-1"), "temperature"),
        (("x", "--top-k", "0"), "top_k"),
        (("x", "--top-p", "1.5"), "top_p"),
        (("x", "--max-new-tokens", "0"), "max_new_tokens"),
        (("x", "--strength", "2"), "strength"),
        (("x", "--seed", "-1"), "seed"),
        (("x", "--payload", "16"), "does not fit the 4 payload bits"),
        (("x", "--payload", "xyz"), "hexadecimal"),
        (("x", "--payload", "-1"), "hexadecimal"),
        (("x", "--payload", "1" * 17), "1 to 16 hexadecimal digits"),
        (("x", "--batch-size", "0"), "batch-size"),
        (("x", "--issuer", "nobody"), "countersign keys create nobody"),
        (("x", "--issuer", "../x"), "no issuer name"),
        (("x" * 600,), "fit the context of 512"),
    ],
)
def test_wrong_arguments(run: Run, lines: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    places = {"IN": str(lines), "OUT": str(tmp_path / "out.jsonl")}
    result = run("generate", *(places.get(a, a) for a in arguments))
    assert result.exit_code == 2 and words in result.stderr and result.stdout == ""
    assert "Traceback" not in result.stderr and not (tmp_path / "out.jsonl").exists()


def test_stdin_that_is_no_text(run: Run) -> None:
    result = run("generate", "-", stdin=b"abc\xff")
    assert result.exit_code == 2 and "not UTF-8 (byte 3)" in result.stderr


def test_which_key_when_none_is_named(run: Run, tmp_path: Path) -> None:
    none = run("generate", "x", "--keys", tmp_path / "empty")
    assert none.exit_code == 2 and "countersign keys create NAME" in none.stderr
    run("keys", "create", "second")
    several = run("generate", "x")
    assert several.exit_code == 2 and "--issuer (demo, second)" in several.stderr
    named = run("generate", "x", "--issuer", "second", "--max-new-tokens", 5, "--json")
    assert json.loads(named.stdout)["marking"]["issuer"] == "second"
