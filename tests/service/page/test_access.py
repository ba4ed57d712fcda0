"""API keys on the page, and the server's comings and goings."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.service.page.conftest import Open
from tests.service.page.fake_server import KEY, FakeServer, listening
from tests.service.page.verdicts import verdict


@pytest.fixture
def guarded(fake: FakeServer, open_page: Open, address: str) -> Page:
    fake.readiness["authentication"] = True
    return open_page(address)


def use_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_label("API key").press("Enter")


def test_without_authentication_nothing_is_asked_for(page: Page, fake: FakeServer) -> None:
    expect(page.locator("#access")).to_be_hidden()
    assert "authorization" not in fake.last("/issuers")[0]


def test_without_a_key_the_public_verification_works_and_says_what_it_is(guarded: Page, fake: FakeServer) -> None:
    expect(guarded.locator("#access-note")).to_contain_text("Without an API key you can verify one text at a time")
    expect(guarded.get_by_role("button", name="Generate")).to_be_disabled()
    expect(guarded.locator("#generate-note")).to_have_text("Generating needs an API key.")
    expect(guarded.locator("#verify-choices")).to_be_hidden()
    fake.verdict = verdict(receipts=None)
    guarded.locator("#text").fill("some text")
    guarded.locator("#text").press("Control+Enter")
    expect(guarded.locator("#verdict-title")).to_have_text("No mark found")
    headers, body = fake.last("/verify")
    assert body == {"text": "some text"} and "authorization" not in headers


def test_the_limit_told_is_that_of_whoever_asks(guarded: Page, fake: FakeServer) -> None:
    guarded.locator("#text").fill("x" * 20_001)
    expect(guarded.locator("#text-count")).to_contain_text("20,000")
    use_key(guarded, KEY)
    expect(guarded.locator("#text-count")).not_to_contain_text("20,000")


def test_a_server_that_is_closed_to_the_public_says_so(fake: FakeServer, open_page: Open, address: str) -> None:
    fake.readiness |= {"authentication": True, "public_text_characters": None}
    page = open_page(address)
    expect(page.locator("#access-note")).to_have_text("This server serves nobody without an API key.")
    expect(page.get_by_role("button", name="Verify", exact=True)).to_be_disabled()
    use_key(page, KEY)
    expect(page.get_by_role("button", name="Verify", exact=True)).to_be_enabled()


def test_a_key_opens_the_rest_and_stands_in_no_address(guarded: Page, fake: FakeServer) -> None:
    use_key(guarded, KEY)
    expect(guarded.locator("#issuer option")).to_have_count(2)
    expect(guarded.locator("#verify-choices")).to_be_visible()
    guarded.get_by_role("button", name="Generate").click()
    expect(guarded.locator("#generated-marking")).to_contain_text("Marked by")
    assert fake.last("/generate")[0]["authorization"] == f"Bearer {KEY}"
    with guarded.expect_download():
        guarded.get_by_role("button", name="Save receipt").click()
    assert fake.last("/receipts/r-1")[0]["authorization"] == f"Bearer {KEY}"
    assert all(KEY not in path and KEY not in headers.get("referer", "") for _, path, headers, _ in fake.asked)
    assert KEY not in guarded.url and KEY not in guarded.content()
    expect(guarded.get_by_label("API key")).to_have_value("")


@pytest.mark.parametrize("kept", [True, False])
def test_a_key_outlives_the_page_only_when_that_was_asked_for(guarded: Page, kept: bool) -> None:
    guarded.get_by_label("Keep until this tab is closed").set_checked(kept)
    use_key(guarded, KEY)
    expect(guarded.locator("#issuer option")).to_have_count(2)
    assert KEY not in guarded.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert (KEY in guarded.evaluate("JSON.stringify(sessionStorage)")) is kept
    guarded.reload()
    expect(guarded.locator("#issuer option")).to_have_count(2 if kept else 0)
    expect(guarded.locator("#forget-key")).to_be_visible(visible=kept)


def test_a_forgotten_key_is_gone(guarded: Page) -> None:
    guarded.get_by_label("Keep until this tab is closed").check()
    use_key(guarded, KEY)
    expect(guarded.locator("#issuer option")).to_have_count(2)
    guarded.get_by_role("button", name="Forget key").click()
    expect(guarded.get_by_role("button", name="Generate")).to_be_disabled()
    expect(guarded.locator("#issuer option")).to_have_count(0)
    expect(guarded.get_by_label("API key")).to_be_focused()
    assert guarded.evaluate("sessionStorage.length") == 0


def test_a_wrong_key_is_told_and_not_kept(guarded: Page) -> None:
    guarded.get_by_label("Keep until this tab is closed").check()
    use_key(guarded, "csk_wrong")
    expect(guarded.locator("#access-error")).to_have_text("The server does not accept this API key. There is no such API key.")
    assert guarded.evaluate("sessionStorage.length") == 0
    expect(guarded.get_by_role("button", name="Generate")).to_be_disabled()
    expect(guarded.get_by_role("button", name="Verify", exact=True)).to_be_enabled()
    use_key(guarded, KEY)
    expect(guarded.locator("#access-error")).to_be_hidden()
    expect(guarded.locator("#issuer option")).to_have_count(2)


@pytest.mark.parametrize("typed", ["", "two words", "schlüssel", "csk_🦊"])
def test_what_can_be_no_key_is_not_sent(guarded: Page, fake: FakeServer, typed: str) -> None:
    use_key(guarded, typed)
    expect(guarded.locator("#access-error")).to_contain_text("API key: It should be the letters, digits and signs of a key")
    expect(guarded.get_by_label("API key")).to_be_focused()
    assert not fake.asked


def test_a_key_without_the_scope_is_told_so(guarded: Page, fake: FakeServer) -> None:
    use_key(guarded, KEY)
    fake.problems["/generate"] = (403, "", "This needs the scope generate.", {})
    guarded.get_by_role("button", name="Generate").click()
    expect(guarded.locator("#generate-error")).to_have_text("This API key does not allow that. This needs the scope generate.")


def test_the_page_waits_for_the_model_and_then_asks_for_the_issuers(fake: FakeServer, address: str, open_page: Open) -> None:
    fake.readiness |= {"status": "loading", "detail": "The model is loading."}
    page = open_page(address, wait=False)
    expect(page.locator("#status")).to_have_text("The model is loading.")
    expect(page.get_by_role("button", name="Generate")).to_be_disabled()
    fake.readiness["status"] = "ready"
    expect(page.locator("#status")).to_have_text("Ready · fake-model")
    expect(page.locator("#issuer option")).to_have_count(2)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()


def test_the_queue_is_shown(fake: FakeServer, address: str, open_page: Open) -> None:
    fake.readiness |= {"waiting_prompts": 3, "waiting_texts": 1}
    expect(open_page(address).locator("#status")).to_have_text("Ready · fake-model · 3 prompts and 1 text waiting")


def test_a_load_that_failed_is_told(fake: FakeServer, address: str, open_page: Open) -> None:
    fake.readiness |= {"status": "failed", "detail": "The model could not be loaded; the log says why."}
    page = open_page(address, wait=False)
    expect(page.locator("#status[data-state=failed]")).to_have_text("The model could not be loaded; the log says why.")


def test_the_page_outlives_a_restart_of_the_server(fake: FakeServer, open_page: Open) -> None:
    with listening(fake.app) as address:
        page = open_page(address)
        page.locator("#prompt").fill("what I wrote")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#generate-error")).to_have_text("The server cannot be reached. Is it still running?")
    expect(page.locator("#status[data-state=failed]")).to_be_visible()
    expect(page.get_by_role("button", name="Generate")).to_be_disabled()
    with listening(fake.app, int(address.rpartition(":")[2])):
        expect(page.locator("#status[data-state=ready]")).to_be_visible()
        expect(page.locator("#prompt")).to_have_value("what I wrote")
        page.get_by_role("button", name="Generate").click()
        expect(page.locator("#generated-text")).to_contain_text("what I wrote the boats lay")
