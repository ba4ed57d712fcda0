"""`countersign verify`, one text and many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

FIELDS = ["verdict", "issuer", "payload", "p_value", "false_positive_rate", "tokens", "candidates", "explanation", "evidence"]


@pytest.fixture(autouse=True)
def keys(run: Run) -> None:
    assert run("keys", "create", "demo").exit_code == 0
    assert run("keys", "create", "other").exit_code == 0


@pytest.fixture
def marked(run: Run) -> str:
    result = run("generate", "Hello", "--issuer", "demo", "--max-new-tokens", 300, "--min-new-tokens", 300, "--seed", 1, "--json")
    return json.loads(result.stdout)["text"]


def test_a_marked_text_is_found(run: Run, marked: str) -> None:
    verdict = json.loads(run("verify", "-", "--json", stdin=marked).stdout)
    assert list(verdict) == FIELDS
    assert (verdict["verdict"], verdict["issuer"], verdict["payload"]) == ("marked", "demo", None)
    assert verdict["p_value"] < 1e-3 and verdict["candidates"] == 2 * 16
    assert [marked[e["start"] : e["end"]] for e in verdict["evidence"]] == list(marked)
    shown = run("verify", "-", stdin=marked)
    assert shown.exit_code == 0 and "marked: issued by demo" in shown.stdout and "p-value" in shown.stdout


def test_an_unmarked_text_has_no_issuer_and_the_same_exit_status(run: Run) -> None:
    result = run("verify", "This text was written by hand, and long before anybody thought of a key for it. " * 3, "--json")
    verdict = json.loads(result.stdout)
    assert result.exit_code == 0 and verdict["verdict"] == "not_detected"
    assert verdict["issuer"] is None and verdict["evidence"] is None
    assert json.loads(run("verify", "Hi", "--json").stdout)["verdict"] == "insufficient_text"
    assert json.loads(run("verify", "", "--json").stdout)["verdict"] == "insufficient_text"
    assert "insufficient text" in run("verify", "Hi").stdout


def test_options_reach_the_verifier(run: Run, marked: str) -> None:
    verdict = json.loads(run("verify", "-", "--issuer", "other", "--false-positive-rate", "1e-6", "--json", stdin=marked).stdout)
    assert (verdict["verdict"], verdict["candidates"], verdict["false_positive_rate"]) == ("not_detected", 16, 1e-6)
    both = json.loads(run("verify", "-", "--issuer", "other", "--issuer", "demo", "--issuer", "demo", "--json", stdin=marked).stdout)
    assert (both["issuer"], both["candidates"]) == ("demo", 32)
    assert json.loads(run("verify", "-", "--detail", "public", "--json", stdin=marked).stdout)["evidence"] is None


def test_batch(run: Run, marked: str, tmp_path: Path) -> None:
    texts = [marked, "short", marked[:150], "", "plain words " * 20]
    content = [json.dumps({"text": text}) for text in texts]
    content.insert(1, '{"text": 7}')
    content.insert(4, "nonsense")
    (tmp_path / "in.jsonl").write_text("\n".join(content))
    outs = []
    for size in (1, 2, 16):
        out = tmp_path / f"{size}.jsonl"
        result = run("verify", "--texts", tmp_path / "in.jsonl", "--out", out, "--batch-size", size)
        assert result.exit_code == 1 and "line 2: " in result.stderr and "line 5: " in result.stderr
        outs.append([json.loads(line) for line in out.read_text().splitlines()])
    records = outs[0]
    assert [r.get("verdict") or r["error"]["line"] for r in records] == [
        "marked", 2, "insufficient_text", records[3]["verdict"], 5, "insufficient_text", "not_detected",
    ]  # fmt: skip
    assert all(list(r) == FIELDS for i, r in enumerate(records) if i not in (1, 4))
    for other in outs[1:]:
        assert [r.get("verdict") for r in other] == [r.get("verdict") for r in records]
        assert [r.get("p_value", 2) for r in other] == pytest.approx([r.get("p_value", 2) for r in records], rel=1e-2)
    alone = json.loads(run("verify", "-", "--json", stdin=marked[:150]).stdout)
    assert alone["p_value"] == pytest.approx(records[3]["p_value"], rel=1e-2)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "Give text"),
        (("x", "--false-positive-rate", "0"), 2, "--false-positive-rate"),
        (("x", "--false-positive-rate", "nan"), 2, "--false-positive-rate"),
        (("x", "--issuer", "nobody"), 2, "'nobody'"),
        (("x", "--detail", "all"), 2, "all"),
        (("x", "--keys", "no-such-folder"), 2, "keys create"),
        (("--texts", "no-such-file", "--out", "y"), 2, "Cannot read no-such-file"),
        (("--texts", "no-such-file"), 2, "--out"),
    ],
)
def test_wrong_arguments(run: Run, arguments: tuple[str, ...], status: int, words: str) -> None:
    result = run("verify", *arguments)
    assert result.exit_code == status and words in result.stderr and "Traceback" not in result.stderr


def test_a_key_that_cannot_be_trusted_stops_the_verification(run: Run, own_home: Path) -> None:
    (own_home / "keys" / "other.json").chmod(0o644)
    result = run("verify", "some text")
    assert result.exit_code == 1 and "chmod 600" in result.stderr
    assert run("verify", "some text", "--issuer", "demo").exit_code == 0
