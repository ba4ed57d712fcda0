"""Generating on the page: live text, stopping, what the mark amounts to, and everything that can go wrong on the way."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.service.page.fake_server import RECEIPT, WORDS, FakeServer

STRANGE = ("<script>alert(1)</script> ", "<img src=x onerror=alert(2)>&amp; ", "שלום עולם ", "🦊👩‍👩‍👧", "e\u0301", "\u202eabc", " end")


def generate(page: Page) -> None:
    page.get_by_role("button", name="Generate").click()


def test_the_text_appears_while_it_is_written(page: Page, fake: FakeServer) -> None:
    fake.pace = 0.15
    generate(page)
    text = page.locator("#generated-text")
    expect(text).to_contain_text("had the boats lay")
    assert "bell" not in text.inner_text()
    expect(page.locator("#generate-progress")).to_have_text(re.compile(r"Writing · \d+ tokens · [\d.]+ tokens/s … \d s"))
    expect(page.locator("#generated-actions")).to_be_hidden()
    expect(page.locator("#generated-marking")).to_contain_text("Marked by issuer “default”. The mark was read back")
    assert text.inner_text() == page.locator("#prompt").input_value() + "".join(WORDS)
    facts = page.locator("#generated-facts").inner_text()
    assert facts.startswith("11 tokens, 11 of them marked · ") and "tokens/s · cut at the length asked for · seed 4711" in facts
    expect(page.locator("#generated-title")).to_be_focused()
    expect(page.locator("#announce")).to_contain_text("Done. Marked by")


@pytest.mark.parametrize("chunk", [1, 7, 0])
def test_any_text_arrives_whole_however_the_stream_is_cut(page: Page, fake: FakeServer, chunk: int) -> None:
    fake.pieces, fake.chunk = STRANGE, chunk
    page.locator("#prompt").fill("<b>prompt</b> 🦊")
    generate(page)
    expect(page.locator("#generated-marking")).to_be_visible()
    assert page.locator("#generated-text").evaluate("element => element.textContent") == "<b>prompt</b> 🦊" + "".join(STRANGE)
    assert page.locator("#generated-text *").count() == 1  # the prompt's own span: nothing became markup


def test_pieces_are_shown_as_they_come_cut(page: Page, fake: FakeServer) -> None:
    fake.pieces, fake.chunk, fake.break_after = STRANGE, 5, len(STRANGE)
    generate(page)
    expect(page.locator("#generated-title")).to_have_text("Continuation, unfinished")
    assert page.locator("#generated-text").evaluate("element => element.lastChild.data") == "".join(STRANGE)


def test_stopping_keeps_what_was_written_and_frees_the_server(page: Page, fake: FakeServer) -> None:
    fake.pieces, fake.pace = WORDS * 20, 0.05
    generate(page)
    expect(page.locator("#generated-text")).to_contain_text("the boats lay")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#generated-marking")).to_contain_text("Unfinished. Its mark was not checked")
    assert fake.gone.wait(3), "the server still writes"
    expect(page.locator("#generate-button")).to_be_focused()
    expect(page.locator("#generate-error")).to_be_hidden()
    page.get_by_role("button", name="Verify this text").click()
    expect(page.locator("#verified")).to_be_visible()
    assert fake.last("/verify")[1]["text"].startswith(" the boats lay")


def test_every_setting_is_sent(page: Page, fake: FakeServer) -> None:
    page.get_by_text("More settings").click()
    page.locator("#issuer").select_option("newsroom")
    values = {
        "prompt": "P",
        "payload": "2a",
        "max_new_tokens": "50",
        "min_new_tokens": "5",
        "temperature": "0.7",
        "top_k": "40",
        "top_p": "0.9",
    }
    for field, value in {**values, "seed": "7", "stop": "\\n\\n\nThe end"}.items():
        page.locator(f"#{field}").fill(value)
    page.locator("#strength").fill("50")
    page.locator("#receipt").uncheck()
    page.locator("#prompt").press("Control+Enter")
    expect(page.locator("#generated-marking")).to_contain_text("issuer “newsroom”, payload 2a")
    sent = fake.last("/generate")[1]
    numbers = {"max_new_tokens": 50, "min_new_tokens": 5, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "seed": 7, "strength": 0.5}
    assert sent == {
        "prompt": "P",
        "issuer": "newsroom",
        "payload": "2a",
        **numbers,
        "stop": ["\n\n", "The end"],
        "stream": True,
        "receipt": False,
    }
    expect(page.locator("#generated-receipt")).to_be_hidden()


def test_only_issuers_that_mark_are_offered_and_a_payload_only_where_one_fits(page: Page) -> None:
    expect(page.locator("#issuer option")).to_have_text(["default", "newsroom"])
    expect(page.locator("#issuers option")).to_have_text(["any issuer", "default", "newsroom", "old-paper (retired)"])
    expect(page.locator("#payload")).to_be_hidden()
    page.locator("#issuer").select_option("newsroom")
    expect(page.locator("#payload-hint")).to_have_text("optional, 8 bits: 0 to ff in hexadecimal")


def test_an_unmarked_text_says_why(page: Page, fake: FakeServer) -> None:
    fake.marking = {"watermark": False, "p_value": 0.2, "reason": "The text is too predictable to carry a mark."}
    generate(page)
    expect(page.locator("#generated-marking")).to_have_text("Not marked. The text is too predictable to carry a mark.")
    expect(page.locator("#generated-receipt")).to_be_hidden()
    page.get_by_role("switch", name="Watermark").click()
    fake.marking["reason"] = "Marking was not asked for."
    generate(page)
    expect(page.locator("#generated-marking")).to_have_text("Not marked: the watermark was off.")
    assert fake.last("/generate")[1]["strength"] == 0


def test_the_receipt_is_saved_as_the_server_gave_it(page: Page) -> None:
    generate(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save receipt").click()
    assert download.value.suggested_filename == "countersign-receipt-r-1.json"
    assert Path(download.value.path()).read_text() == RECEIPT


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seed", "9007199254740993", "Seed: It should be a whole number from 0 to 9007199254740991."),
        ("seed", "-1", "Seed: It should be a whole number"),
        ("prompt", "x" * 2001, "Prompt: 2,001 characters: more than the 2,000 that this server takes"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(page: Page, fake: FakeServer, field: str, value: str, said: str) -> None:
    page.get_by_text("More settings").click()
    page.locator(f"#{field}").fill(value)
    generate(page)
    expect(page.locator("#generate-error [role=alert]")).to_contain_text(said)
    expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
    assert not [path for _, path, _, _ in fake.asked if path == "/generate"]


def test_what_is_no_number_is_not_silently_the_default(page: Page, fake: FakeServer) -> None:
    page.locator("#temperature").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("1e")
    generate(page)
    expect(page.locator("#generate-error")).to_contain_text("Temperature: It should be a number.")
    assert not [path for _, path, _, _ in fake.asked if path == "/generate"]


def test_the_servers_complaint_is_shown_at_its_field(page: Page, fake: FakeServer) -> None:
    place = {"pointer": "/stop/0", "detail": "It is too long.", "code": "x"}
    fake.problems["/generate"] = (422, "", "no", {"errors": [place]})
    generate(page)
    expect(page.locator("#generate-error [role=alert]")).to_have_text("Please check:Stop strings: It is too long.")
    expect(page.locator("#stop")).to_have_attribute("aria-invalid", "true")
    del fake.problems["/generate"]
    generate(page)
    expect(page.locator("#generated")).to_be_visible()
    assert page.locator("[aria-invalid]").count() == 0


@pytest.mark.parametrize(("status", "lead"), [(429, "That was too much for the moment."), (503, "The server cannot take this now.")])
def test_a_refusal_counts_down_to_the_next_try(page: Page, fake: FakeServer, status: int, lead: str) -> None:
    fake.problems["/generate"] = (status, "2", "The queue is full.", {})
    generate(page)
    expect(page.locator("#generate-error [role=alert]")).to_have_text(f"{lead} The queue is full.")
    countdown = page.locator("#generate-error .countdown")
    expect(countdown).to_have_text("Try again in 2 seconds.")
    expect(countdown).to_have_text("Try again in 1 second.")
    expect(countdown).to_have_text("You can try again now.")
    expect(page.locator("#announce")).to_have_text("You can try again now.")


def test_an_unexpected_error_is_named_by_its_id(page: Page, fake: FakeServer) -> None:
    fake.problems["/generate"] = (500, "", "Something went wrong on the server.", {"error_id": "abc123"})
    generate(page)
    expect(page.locator("#generate-error [role=alert]")).to_contain_text("Something went wrong on the server.Error id abc123")


def test_a_worker_that_dies_midway_leaves_the_beginning_and_the_reason(page: Page, fake: FakeServer) -> None:
    fake.error_after = 3
    generate(page)
    expect(page.locator("#generate-error")).to_contain_text("The generation worker stopped and is restarted.")
    expect(page.locator("#generated-text")).to_contain_text("the boats lay")
    expect(page.locator("#generated-marking")).to_contain_text("Unfinished.")
    expect(page.locator("#generated-receipt")).to_be_hidden()


def test_a_connection_that_breaks_off_is_no_finished_text(page: Page, fake: FakeServer) -> None:
    fake.break_after = 3
    generate(page)
    expect(page.locator("#generate-error")).to_contain_text("The connection was lost before the text was finished.")
    expect(page.locator("#generated-title")).to_have_text("Continuation, unfinished")


def test_an_answer_that_is_no_json_is_told_as_such(page: Page) -> None:
    page.route("**/generate", lambda route: route.fulfill(status=502, body="<html>Bad gateway</html>"))
    generate(page)
    expect(page.locator("#generate-error")).to_contain_text("nothing that this page understands (status 502)")


def test_whoever_does_something_else_meanwhile_is_left_there(page: Page, fake: FakeServer) -> None:
    fake.pace = 0.05
    generate(page)
    page.locator("#text").focus()
    expect(page.locator("#generated-marking")).to_be_visible()
    expect(page.locator("#text")).to_be_focused()


def test_a_second_text_replaces_the_first(page: Page, fake: FakeServer) -> None:
    for words in ((" one",), (" two",)):
        fake.pieces = words
        generate(page)
        expect(page.locator("#generated-text")).to_contain_text("had" + words[0])
        expect(page.locator("#generate-button")).to_be_visible()
    assert json.dumps(page.locator("#generated-text").inner_text()).count("one") == 0
