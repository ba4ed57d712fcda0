"""A real headless Chromium. Whatever a test does there, the page must neither fail on its console nor ask anybody but its server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.service.page.fake_server import FakeServer, listening

BROWSER_SCRIPT = Path(__file__).parents[3] / "scripts" / "browser.sh"
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}

Open = Callable[..., Page]


@pytest.fixture(scope="package")  # not longer: the loop that Playwright runs in this thread would be in the way of other tests
def browser() -> Iterator[Browser]:
    found = subprocess.run(["bash", str(BROWSER_SCRIPT)], capture_output=True, text=True)
    if found.returncode:
        pytest.fail(found.stderr.strip(), pytrace=False)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found.stdout.strip(), args=QUIET + sandbox)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def started() -> Iterator[tuple[FakeServer, str]]:
    fake = FakeServer()
    with listening(fake.app) as address:
        yield fake, address


@pytest.fixture
def fake(started: tuple[FakeServer, str]) -> FakeServer:
    started[0].reset()
    return started[0]


@pytest.fixture
def address(started: tuple[FakeServer, str], fake: FakeServer) -> str:
    """Of `fake`, as new."""
    return started[1]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens an address in a browser of its own (keywords: those of `new_context`), ready or not as `wait` says."""
    contexts: list[Any] = []
    faults: list[str] = []

    def console(message: ConsoleMessage) -> None:
        # Chromium writes a line of its own for every answer of 400 and above, and for a server that is gone: tests provoke those.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            faults.append(f"console: {message.text}")

    def open_at(address: str, *, wait: bool = True, **options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(5_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", console)
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        own = (address + "/", "blob:" + address, "data:image/svg+xml")
        page.on("request", lambda request: None if request.url.startswith(own) else faults.append(f"request: {request.url}"))
        page.goto(address + "/")
        if wait:
            page.wait_for_selector("#status[data-state=ready]")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not faults, faults


@pytest.fixture
def page(open_page: Open, address: str) -> Page:
    return open_page(address)
