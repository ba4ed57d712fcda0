"""The page on the real service: its routes, keys, limits, receipts and headers, with the fake engine behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from playwright.sync_api import Page, expect

from service.receipts.verification import verify_receipt
from tests.service.harness import Served, serving, small_settings, until
from tests.service.page.conftest import Open


def address_of(served: Served) -> str:
    return str(served.client.base_url).rstrip("/")


@pytest.fixture
def site(served: Served, open_page: Open) -> Page:
    return open_page(address_of(served))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = Path(tmp_path_factory.mktemp("guarded"))
    with serving(small_settings(folder, authentication=True, public_rate="2/minute", generate_rate="1/minute")) as running:
        yield running


def test_from_prompt_to_receipt_to_verdict(site: Page, served: Served) -> None:
    site.locator("#issuer").select_option("newsroom")
    site.locator("#payload").fill("2a")
    site.locator("#max_new_tokens").fill("60")
    site.get_by_role("button", name="Generate").click()
    expect(site.locator("#generated-marking")).to_contain_text("Marked by issuer “newsroom”, payload 2a.")
    with site.expect_download() as download:
        site.get_by_role("button", name="Save receipt").click()
    receipt = json.loads(Path(download.value.path()).read_text())
    site.get_by_role("button", name="Verify this text").click()
    expect(site.locator("#verdict-title")).to_have_text("Marked by issuer “newsroom”")
    text = site.locator("#text").input_value()
    (key,) = served.client.get("/signing-keys").json()["keys"]
    public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key["public_key"]))
    assert verify_receipt(receipt, public_key, text).valid
    expect(site.locator("#passage-1")).to_contain_text(text.strip())
    expect(site.get_by_role("button", name="Save receipt of this text")).to_be_visible()


def test_the_text_is_live_and_stopping_frees_its_place(site: Page, served: Served) -> None:
    with served.holding(after=5):
        site.get_by_role("button", name="Generate").click()
        expect(site.locator("#generate-progress")).to_contain_text("Writing · 5 tokens")
        site.get_by_role("button", name="Stop").click()
        expect(site.locator("#generated-title")).to_have_text("Continuation, unfinished")
        until(lambda: served.unfinished == 0, "the place to be free")


def test_a_worker_that_dies_midway(site: Page, served: Served) -> None:
    with served.holding(after=5):
        site.get_by_role("button", name="Generate").click()
        expect(site.locator("#generate-progress")).to_contain_text("Writing · 5 tokens")
        asyncio.run_coroutine_threadsafe(served.engine.die(), served.loop).result(10)
        expect(site.locator("#generate-error")).to_contain_text("The generation worker stopped while it did this")
    site.get_by_role("button", name="Generate").click()
    expect(site.locator("#generated-marking")).to_contain_text("Marked by issuer “default”")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("max_new_tokens", "100000", "Length in tokens: "), ("temperature", "11", "Temperature: "), ("stop", "x" * 200, "Stop strings: ")],
)
def test_what_the_service_refuses_is_shown_at_its_field(site: Page, field: str, value: str, said: str) -> None:
    site.get_by_text("More settings").click()
    site.locator(f"#{field}").fill(value)
    site.get_by_role("button", name="Generate").click()
    expect(site.locator("#generate-error li")).to_contain_text(said)
    expect(site.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")


def test_keys_and_limits(guarded: Served, open_page: Open) -> None:
    page = open_page(address_of(guarded))
    page.locator("#text").fill("a text of unknown origin, long enough")
    for _ in range(2):
        page.get_by_role("button", name="Verify", exact=True).click()
        expect(page.locator("#verdict-title")).to_have_text("No mark found")
        expect(page.locator("#verify-button")).to_be_visible()
    page.get_by_role("button", name="Verify", exact=True).click()
    expect(page.locator("#verify-error .countdown")).to_contain_text("Try again in ")
    page.get_by_label("API key").fill("csk_unknown")
    page.get_by_role("button", name="Use key").click()
    expect(page.locator("#access-error")).to_contain_text("The server does not accept this API key.")
    token = guarded.api_key("page", "generate")["Authorization"].removeprefix("Bearer ")
    page.get_by_label("API key").fill(token)
    page.get_by_role("button", name="Use key").click()
    expect(page.locator("#issuer option")).to_have_count(2)
    page.get_by_role("button", name="Verify", exact=True).click()
    expect(page.locator("#verify-error")).to_contain_text("This API key does not allow that.")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#generated-marking")).to_contain_text("Marked by issuer “default”")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#generate-error .countdown")).to_contain_text("Try again in ")
