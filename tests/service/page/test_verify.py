"""Verifying on the page: text and files in, the verdict in words, passages and evidence by code points, and the evidence file out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.service.page.fake_server import FakeServer
from tests.service.page.verdicts import evidence, marked, segment, verdict

RUNS = """box => {
  const runs = [];
  const walk = (node, where) => {
    if (node.nodeType === Node.TEXT_NODE) {
      if (runs.length && runs.at(-1)[0] === where) runs.at(-1)[1] += node.data; else runs.push([where, node.data]);
    } else if (node.className !== "unseen")
      for (const child of node.childNodes) walk(child, node.className === "passage" ? node.id : where);
  };
  walk(box, null);
  return runs.filter(([, text]) => text);
}"""
"""The text shown, as [passage it stands in or null, characters]."""


def verify(page: Page, fake: FakeServer, text: str, shown: dict[str, Any]) -> None:
    fake.verdict = shown
    page.locator("#text").fill(text)
    page.get_by_role("button", name="Verify", exact=True).click()
    expect(page.locator("#verified")).to_be_visible()
    expect(page.locator("#verify-running")).to_be_hidden()


def runs(page: Page) -> list[list[str | None]]:
    return page.locator("#evidence-text").evaluate(RUNS)


def facts(page: Page) -> dict[str, str]:
    return dict(page.locator("#facts div").evaluate_all("groups => groups.map(group => [...group.children].map(part => part.textContent))"))


def table(page: Page) -> list[list[str]]:
    return page.locator("#passage-rows tr").evaluate_all("rows => rows.map(row => [...row.children].map(cell => cell.textContent))")


@pytest.mark.parametrize("size", [1, 3, 50])
def test_passages_are_delimited_by_code_points_and_no_character_is_lost(page: Page, fake: FakeServer, size: int) -> None:
    text = "🦊 <b>before</b> 🦊🦊 MARKED 👩‍👩‍👧 e\u0301 שלום and between MORE after\n\u202e🦊"
    spans = [(text.index("MARKED"), text.index(" and")), (text.index("MORE"), text.index(" after"))]
    verify(page, fake, text, marked(segments=[segment(*span) for span in spans], evidence=evidence(text, size)))
    (a, b), (c, d) = spans
    assert runs(page) == [[None, text[:a]], ["passage-1", text[a:b]], [None, text[b:c]], ["passage-2", text[c:d]], [None, text[d:]]]
    assert page.locator("#evidence-text b, #evidence-text script").count() == 0


def test_passages_may_touch_each_other_and_the_ends_and_tokens_may_leave_gaps(page: Page, fake: FakeServer) -> None:
    tokens = [{"start": 0, "end": 3, "score": 1.0}, {"start": 0, "end": 3, "score": 0.5}, {"start": 8, "end": 13, "score": -1.0}]
    verify(page, fake, "one two three", marked(segments=[segment(0, 7), segment(7, 13, "other")], evidence=tokens))
    assert runs(page) == [["passage-1", "one two"], ["passage-2", " three"]]
    expect(page.locator("#verdict-title")).to_have_text("Marked by issuer “demo”, other passages by “other”")


def test_a_long_text_is_shown_whole_and_soon(page: Page, fake: FakeServer) -> None:
    text = "word " * 20_000
    fake.readiness["max_text_characters"] = 400_000
    began = time.monotonic()
    verify(page, fake, text, marked(segments=[segment(10_003, 50_001)], evidence=evidence(text, 5)))
    assert time.monotonic() - began < 4
    assert runs(page) == [[None, text[:10_003]], ["passage-1", text[10_003:50_001]], [None, text[50_001:]]]
    assert page.locator("#evidence-text *").count() < 3_100
    expect(page.locator("#evidence-count")).to_contain_text("each colour is the mean of 7 tokens")
    began = time.monotonic()
    page.locator("#text").press("End")
    page.keyboard.type("still quick")
    assert time.monotonic() - began < 2


def test_the_table_of_passages_leads_into_the_text(page: Page, fake: FakeServer) -> None:
    segments = [segment(0, 4), segment(4, 8, "ledger", "2a", 0.9876), segment(8, 12, "ledger", None, 0.4)]
    verify(page, fake, "x" * 12, marked(segments=segments, evidence=evidence("x" * 12)))
    assert table(page) == [
        ["1", "0 – 4", "demo", "2", "–", "2.0\xa0×\xa010⁻⁶", "4"],
        ["2", "4 – 8", "ledger", "2", "2a98.8\xa0%", "2.0\xa0×\xa010⁻⁶", "4"],
        ["3", "8 – 12", "ledger", "2", "unreadable40\xa0%", "2.0\xa0×\xa010⁻⁶", "4"],
    ]
    page.get_by_role("button", name="Show passage 2").press("Enter")
    expect(page.locator("#passage-2")).to_be_focused()


def test_the_numbers_of_a_mark(page: Page, fake: FakeServer) -> None:
    verify(page, fake, "ab", marked(evidence=evidence("ab"), segments=[segment(0, 2)]))
    shown = facts(page)
    assert shown["p-value"] == "3.0\xa0×\xa010⁻⁵1 in 33 thousandexact for a random key: 1.0\xa0×\xa010⁻⁵"
    assert shown["Issuer"] == "demokey 1" and "Payload" not in shown
    expect(page.locator("#announce")).to_have_text("Marked by issuer “demo”. p-value 3.0\xa0×\xa010⁻⁵.")
    expect(page.locator("#verdict-title")).to_be_focused()


def test_a_payload_read_and_erased(page: Page, fake: FakeServer) -> None:
    whole = {"payload_bits": [{"value": value, "confidence": 0.97} for value in (1, 0, None, 1)], "segments": [segment(0, 2)]}
    verify(page, fake, "ab", marked(payload="9", payload_confidence=0.99999, **whole))
    assert facts(page)["Payload"] == "9over 99.9\xa0% sure"
    verify(page, fake, "ab", marked(payload_confidence=0.6, **whole))
    assert facts(page)["Payload"].startswith("unreadable") and "60\xa0%" in facts(page)["Payload"]
    assert facts(page)["Bits that can be read"].startswith("10?1")


@pytest.mark.parametrize(
    ("shown", "title", "caution"),
    [
        (marked(), "Marked by issuer “demo”", "guards against accidents, not against forgers"),
        (verdict(), "No mark found", "does not say that a person wrote the text"),
        (verdict(verdict="insufficient_text"), "Too short to tell", "neither that the text is marked nor that it is not"),
    ],
)
def test_each_verdict_says_what_it_does_not_mean(page: Page, fake: FakeServer, shown: dict[str, Any], title: str, caution: str) -> None:
    verify(page, fake, "some text", shown)
    expect(page.locator("#verdict-title")).to_have_text(title)
    expect(page.locator("#explanation")).to_have_text("The verdict in the server's own words.")
    expect(page.locator("#cautions")).to_contain_text(caution)
    expect(page.locator("#evidence")).to_be_hidden()
    expect(page.locator("#passages")).to_be_hidden()


def test_what_a_missing_mark_means_is_told_where_it_is_known(page: Page, fake: FakeServer) -> None:
    verify(page, fake, "some text", verdict(expected_detection=0.4, candidates=2**68, windows=3))
    assert facts(page)["Marks found"] == "40\xa0%of marked texts of this length, when nobody edited them"
    assert facts(page)["Codewords tried"].startswith("3.0\xa0×\xa010²⁰")
    assert facts(page)["Text"] == "100 tokensand 3 parts of it searched"
    verify(page, fake, "some text", verdict())
    assert "Marks found" not in facts(page)


def test_choices_are_sent_and_the_evidence_file_holds_the_answer_unrounded(page: Page, fake: FakeServer) -> None:
    page.locator("#issuers").select_option("old-paper")
    page.locator("#false_positive_rate").select_option("0.0001")
    verify(page, fake, 'A "text" \\ 🦊', verdict(candidates=2**68 + 1))
    sent = {"text": 'A "text" \\ 🦊', "issuers": ["old-paper"], "false_positive_rate": 1e-4}
    assert fake.last("/verify")[1] == sent
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as evidence").click()
    assert download.value.suggested_filename.startswith("countersign-verdict-20")
    kept = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert kept["request"] == sent and kept["answer"]["results"] == [verdict(candidates=2**68 + 1)]
    assert kept["answer"]["checkpoint"] == "fake-checkpoint" and kept["detector"].endswith("/verify") and kept["saved_at"].endswith("Z")


def test_receipts_of_the_text_can_be_saved(page: Page, fake: FakeServer) -> None:
    verify(page, fake, "some text", marked(receipts=["r-1"]))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save receipt of this text").click()
    assert download.value.suggested_filename == "countersign-receipt-r-1.json"
    fake.problems["/receipts/r-1"] = (404, "", "There is no such receipt.", {})
    page.get_by_role("button", name="Save receipt of this text").click()
    expect(page.locator("#verdict-receipt-error")).to_have_text("There is no such receipt.")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_file_is_read(page: Page, fake: FakeServer, encoding: str) -> None:
    page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": "Früh am 🦊 Morgen".encode(encoding)})
    expect(page.locator("#text")).to_have_value("Früh am 🦊 Morgen")
    expect(page.locator("#text-count")).to_have_text("16 characters")
    expect(page.locator("#announce")).to_have_text("a.txt loaded: 16 characters.")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\x00", b"with a \x00 in it", b"caf\xe9"])
def test_what_is_no_text_is_refused_before_it_is_sent(page: Page, content: bytes) -> None:
    page.locator("#file").set_input_files({"name": "a.png", "mimeType": "text/plain", "buffer": content})
    expect(page.locator("#verify-error")).to_contain_text("a.png is not a text file (UTF-8 or UTF-16).")
    expect(page.locator("#text")).to_have_value("")


def test_a_file_can_be_dropped_and_nothing_else_leaves_the_page(page: Page) -> None:
    drop = """(selector) => {
      const data = new DataTransfer();
      data.items.add(new File(["dropped"], "d.txt"));
      const target = document.querySelector(selector);
      return ["dragover", "drop"].map((type) => {
        const event = new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
        target.dispatchEvent(event);
        return event.defaultPrevented;
      });
    }"""
    assert page.evaluate(drop, "footer") == [True, True]
    expect(page.locator("#text")).to_have_value("")
    assert page.evaluate(drop, "#verify-card h2") == [True, True]
    expect(page.locator("#text")).to_have_value("dropped")


def test_the_size_limit_is_told_before_sending(page: Page, fake: FakeServer) -> None:
    page.locator("#text").fill("🦊" * 120_001)
    expect(page.locator("#text-count")).to_have_text("120,001 characters: more than the 120,000 that this server takes")
    page.get_by_role("button", name="Verify", exact=True).click()
    expect(page.locator("#verify-error [role=alert]")).to_contain_text("more than the 120,000")
    page.locator("#file").set_input_files({"name": "big.txt", "mimeType": "text/plain", "buffer": b"x" * 480_001})
    expect(page.locator("#verify-error")).to_contain_text("big.txt has 480,001 bytes: more than the 120,000 characters")
    assert not [path for _, path, _, _ in fake.asked if path == "/verify"]


def test_verification_can_be_cancelled(page: Page, fake: FakeServer) -> None:
    fake.verify_seconds = 1.0
    page.locator("#text").fill("some text")
    page.locator("#text").press("Control+Enter")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#verify-button")).to_be_visible()
    expect(page.locator("#verified")).to_be_hidden()
    expect(page.locator("#announce")).to_have_text("Stopped.")
