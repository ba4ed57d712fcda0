"""`countersign verify`, one text and many."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.cli.calibrations import leaning_calibration, sound_calibration
from tests.cli.conftest import Run
from tests.fakes import fake_watermarked_model
from watermark.cli import common
from watermark.cli.verify import _show
from watermark.pipeline import WatermarkedModel
from watermark.statistics.decision import Findings, decide
from watermark.statistics.posterior import DecodedPayload, PayloadBit
from watermark.statistics.verdict import Verdict

FIELDS = [field.name for field in dataclasses.fields(Verdict)]
BEFORE, BETWEEN = "A sentence that nobody marked, and nobody will. ", "Then the sober report goes on as before, by hand."


@pytest.fixture(autouse=True)
def keys(run: Run) -> None:
    assert run("keys", "create", "demo").exit_code == 0
    assert run("keys", "create", "other").exit_code == 0


def written(run: Run, prompt: str, issuer: str, tokens: int, *more: object) -> str:
    """What the model writes after `prompt`, marked for `issuer`."""
    length = ["--max-new-tokens", tokens, "--min-new-tokens", tokens, "--seed", 1]
    return json.loads(run("generate", "-", "--issuer", issuer, *length, *more, "--json", stdin=prompt).stdout)["text"]


def verdict_on(run: Run, text: str, *options: object) -> dict:
    return json.loads(run("verify", "-", "--json", *options, stdin=text).stdout)


@pytest.fixture
def marked(run: Run) -> str:
    return written(run, "Hello", "demo", 300)


def test_a_marked_text_is_found(run: Run, marked: str) -> None:
    verdict = json.loads(run("verify", "-", "--json", stdin=marked).stdout)
    assert list(verdict) == FIELDS and verdict["expected_detection"] is None
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


def test_each_marked_passage_is_a_segment(run: Run) -> None:
    """Two issuers in one text: each wrote on after what was there, as people paste."""
    assert run("keys", "create", "newsroom", "--payload-bits", 8).exit_code == 0
    first = BEFORE + written(run, BEFORE, "demo", 200)
    text = first + BETWEEN + written(run, first + BETWEEN, "newsroom", 180, "--payload", "2a")
    verdict = verdict_on(run, text)
    segments = verdict["segments"]
    assert [(s["issuer"], s["payload"]) for s in segments] == [("demo", None), ("newsroom", "2a")]
    for segment, (start, end) in zip(segments, [(len(BEFORE), len(first)), (len(first + BETWEEN), len(text))], strict=True):
        assert abs(segment["start"] - start) <= 25 and abs(segment["end"] - end) <= 25
        assert segment["tokens"] == segment["end"] - segment["start"] and segment["p_value"] < 1e-3  # a character is a token here
    assert verdict["windows"] > 0 and verdict["issuer"] in ("demo", "newsroom")
    lines = [line for line in run("verify", "-", stdin=text).stdout.splitlines() if line.startswith("segment: ")]
    assert lines[0] == f"segment: characters {segments[0]['start']}…{segments[0]['end']}, {segments[0]['tokens']} tokens, demo, " + (
        f"p-value {segments[0]['p_value']:.3g}"
    )
    assert ", newsroom, payload 2a (confidence " in lines[1] and len(lines) == 2


def test_a_payload_has_its_confidence(run: Run) -> None:
    assert run("keys", "create", "newsroom", "--payload-bits", 8).exit_code == 0
    text = written(run, "Hello", "newsroom", 300, "--payload", "2a")
    verdict = verdict_on(run, text)
    assert verdict["payload"] == "2a" and verdict["payload_confidence"] > 0.99
    assert [bit["value"] for bit in verdict["payload_bits"]] == [0, 0, 1, 0, 1, 0, 1, 0]
    assert "\npayload: 2a (confidence " in run("verify", "-", stdin=text).stdout


def test_an_erased_payload_is_said_to_be_one(run: Run) -> None:
    """A text that is too short for its message, at a rate that calls it marked all the same."""
    assert run("keys", "create", "newsroom", "--payload-bits", 8).exit_code == 0
    text = written(run, "Hello", "newsroom", 40, "--payload", "2a")
    lenient = ("--issuer", "newsroom", "--false-positive-rate", 0.9)
    verdict = verdict_on(run, text, *lenient)
    assert (verdict["verdict"], verdict["issuer"], verdict["payload"]) == ("marked", "newsroom", None)
    assert verdict["payload_confidence"] < 0.95 and len(verdict["payload_bits"]) == 8
    shown = run("verify", "-", *lenient, stdin=text).stdout
    assert "\npayload: a message is there but cannot be read (confidence " in shown
    public = run("verify", "-", *lenient, "--detail", "public", stdin=text).stdout
    for answer in (shown, public):
        assert "A message is in the mark, but it cannot be read with enough confidence" in answer


def test_single_bits_are_shown_where_the_message_is_erased(capsys: pytest.CaptureFixture[str]) -> None:
    bits = tuple(PayloadBit(value, 0.97 if value is not None else 0.6) for value in (1, 0, None, 1))
    found = Findings("demo", 1, DecodedPayload(None, 0.6, bits), 1e-5, 1e-5, 60, 256, 0, None, True)
    _show(decide(found, 1e-3), as_json=False)
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "payload: a message is there but cannot be read (confidence 60 %)",
        "its bits, ? where unsure: 10?1",
    ]


def test_public_detail_is_coarse(run: Run, marked: str) -> None:
    full, public = verdict_on(run, marked), verdict_on(run, marked, "--detail", "public")
    assert list(public) == FIELDS and (public["verdict"], public["issuer"]) == ("marked", "demo")
    assert full["p_value"] <= public["p_value"] < 10 * full["p_value"]
    assert f"{public['p_value']:.3g}".startswith("1e-") and public["exact_p_value"] == public["p_value"]
    assert public["segments"] == [] and public["evidence"] is public["payload_bits"] is public["payload_confidence"] is None
    shown = run("verify", "-", "--detail", "public", stdin=marked).stdout
    assert "segment: " not in shown and f"{full['p_value']:.2g}" not in shown


def test_a_calibration_says_what_a_missing_mark_means(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fake_watermarked_model()
    model = WatermarkedModel(plain.lm, plain.pair, "fake-calibrated", sound_calibration())
    monkeypatch.setattr(common, "load_model", lambda *_: model)
    short, long = BEFORE[:20], BEFORE * 5
    assert verdict_on(run, short)["verdict"] == "insufficient_text" and verdict_on(run, long)["verdict"] == "not_detected"
    assert verdict_on(run, short)["expected_detection"] == pytest.approx(0.4) and verdict_on(run, long)["expected_detection"] == 1.0
    assert "\nexpected detection: 40 % of marked texts of this length, unedited\n" in run("verify", short).stdout
    assert "\nexpected detection: over 99.9 % of marked texts" in run("verify", long).stdout
    leaning = leaning_calibration(plain.evidence([long])[0].total())
    monkeypatch.setattr(common, "load_model", lambda *_: WatermarkedModel(plain.lm, plain.pair, "fake-calibrated", leaning))
    verdict = verdict_on(run, long)
    assert verdict["p_value"] > verdict["exact_p_value"]  # the text leans towards a key as far as the calibration texts do
    assert f"\nexact p-value: {verdict['exact_p_value']:.3g} (for a key drawn at random)\n" in run("verify", long).stdout


def test_longer_payloads_than_json_numbers_hold(run: Run) -> None:
    assert run("keys", "create", "wide", "--payload-bits", 64).exit_code == 0
    verdict = verdict_on(run, BEFORE, "--issuer", "wide")
    assert verdict["candidates"] == 16 * 2**64
    assert "; 3e+20 candidates, 48 tokens)" in run("verify", BEFORE, "--issuer", "wide").stdout


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
    assert records[0]["segments"] and records[0]["segments"][0]["issuer"] == "demo"
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
