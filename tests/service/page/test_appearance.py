"""How the page looks and can be used: contrast, a phone's width, the keyboard alone, reduced motion. Leaves screenshots to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.service.page.conftest import PHONE, Open
from tests.service.page.fake_server import FakeServer
from tests.service.page.verdicts import evidence, marked, segment, verdict

DEVICES: dict[str, dict[str, Any]] = {"desktop": {"viewport": {"width": 1280, "height": 900}}, "phone": PHONE}
State = Callable[[FakeServer, Page], None]
TEXT = "The harbour was quiet that morning, and the boats lay still. Nobody spoke until the bell rang twice from the old tower; " * 4
MEASURE = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")

FOCUSED = """() => {
  const element = document.activeElement, { outlineStyle, outlineWidth } = getComputedStyle(element);
  return [element.id || element.tagName, outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
}"""
"""What has the focus, and whether one can see that."""


def say(fake: FakeServer, page: Page, shown: dict[str, Any]) -> None:
    fake.verdict = shown
    page.locator("#text").fill(TEXT)
    page.get_by_role("button", name="Verify", exact=True).click()
    expect(page.locator("#verified")).to_be_visible()


def begun(fake: FakeServer, page: Page) -> None:
    page.get_by_text("More settings").click()


def marked_text(fake: FakeServer, page: Page) -> None:
    page.locator("#issuer").select_option("newsroom")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#generated-actions")).to_be_visible()
    bits = [{"value": value, "confidence": 0.97} for value in (0, 0, None, 0, 1, 0, 1, 0)]
    passages = [segment(24, 190, payload="2a", confidence=0.99), segment(250, 420, "a-long-issuer-name.example", None, 0.5)]
    message = {"payload_confidence": 0.6, "payload_bits": bits}
    say(fake, page, marked(segments=passages, evidence=evidence(TEXT, 5), expected_detection=0.99, receipts=["r-1"], **message))


def too_short(fake: FakeServer, page: Page) -> None:
    fake.marking = {"watermark": False, "p_value": 0.2, "reason": "Too short."}
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#generated-marking")).to_be_visible()
    say(fake, page, verdict(verdict="insufficient_text", expected_detection=0.4))


def refused(fake: FakeServer, page: Page) -> None:
    fake.problems["/generate"] = (503, "30", "The queue is full (64 places). Try again later.", {})
    fake.problems["/verify"] = (422, "", "no", {"errors": [{"pointer": "/text", "detail": "It is too long.", "code": "x"}]})
    for button in ("Generate", "Verify"):
        page.get_by_role("button", name=button, exact=True).click()
    expect(page.locator("#verify-error")).to_be_visible()
    expect(page.locator("#generate-error")).to_be_visible()


def without_key(fake: FakeServer, page: Page) -> None:
    fake.readiness["authentication"] = True
    page.reload()
    expect(page.locator("#access")).to_be_visible()
    page.get_by_label("API key").fill("csk_wrong")
    page.get_by_label("API key").press("Enter")
    expect(page.locator("#access-error")).to_be_visible()


STATES: list[State] = [begun, marked_text, too_short, refused, without_key]


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pytest keeps the folders of its last three runs: pytest-of-USER/pytest-N/screenshots0 among the system's temporary files."""
    return tmp_path_factory.mktemp("screenshots")


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_every_text_can_be_read_and_nothing_sticks_out(
    fake: FakeServer, address: str, open_page: Open, screenshots: Path, device: str, scheme: str, state: State
) -> None:
    page = open_page(address, color_scheme=scheme, reduced_motion="reduce", **DEVICES[device])
    state(fake, page)
    page.screenshot(path=str(screenshots / f"{state.__name__}-{device}-{scheme}.png"), full_page=True)
    measured = page.evaluate(MEASURE)
    assert measured["texts"] > 30 and measured["edges"] >= 8
    assert not measured["faint"], "WCAG 2.2 AA: 4.5 for text, 3 for large text and the edges of controls"
    assert page.evaluate("document.documentElement.scrollWidth") <= DEVICES[device]["viewport"]["width"]
    small = page.locator("button:visible, select:visible, input:visible:not([type=range])").evaluate_all(
        "controls => controls.filter(c => Math.min(c.offsetWidth, c.offsetHeight) < 24 && !c.labels?.length).map(c => c.id || c.outerHTML)"
    )
    assert not small, "WCAG 2.2 AA: targets of 24 pixels"


def test_it_works_by_keyboard_alone(page: Page, fake: FakeServer) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to verification")).to_be_focused()
    visited = []
    for _ in range(14):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        visited.append(focused[0])
        assert focused[1], f"{focused[0]} shows no focus"
    order = ["prompt", "issuer", "max_new_tokens", "temperature", "watermark", "strength", "SUMMARY", "generate-button"]
    assert visited == [*order, "text", "file", "issuers", "false_positive_rate", "verify-button", "A"]
    page.locator("#watermark").focus()
    page.keyboard.press("Space")
    expect(page.locator("#strength-value")).to_have_text("off")
    page.locator("#generate-button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#generated-title")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Verify this text")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#verdict-title")).to_be_focused()


def test_the_skip_link_leads_to_verification(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#verify-title")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#text")).to_be_focused()


@pytest.mark.parametrize(("wish", "animation"), [("reduce", "none"), ("no-preference", "slide")])
def test_motion_is_left_out_on_request(fake: FakeServer, address: str, open_page: Open, wish: str, animation: str) -> None:
    page = open_page(address, reduced_motion=wish)
    fake.pace = 0.2
    page.get_by_role("button", name="Generate").click()
    bar = page.locator("#generate-running .bar")
    assert bar.evaluate("bar => getComputedStyle(bar, '::after').animationName") == animation


def test_the_evidence_does_not_rely_on_colour_alone(page: Page, fake: FakeServer) -> None:
    marked_text(fake, page)
    styles = {
        name: page.locator(f"#evidence-text .{name}").first.evaluate("e => getComputedStyle(e).textDecorationStyle")
        for name in ("p3", "n3")
    }
    assert styles == {"p3": "solid", "n3": "dotted"}
    assert page.locator(".swatches").inner_text().replace("\n", "") == "−−−−−−++++++"
    assert page.locator("#evidence-text mark").first.get_attribute("title").startswith("evidence ")  # pyright: ignore[reportOptionalMemberAccess]
