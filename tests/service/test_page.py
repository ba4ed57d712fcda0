from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from service.page import FILE, content_security_policy
from tests.service.harness import Served

VOID = {"meta", "link", "input", "br", "hr", "img", "path", "rect"}


class Elements(HTMLParser):
    """Collects elements, and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> in line {self.getpos()[0]}"


@pytest.fixture(scope="module")
def page(served: Served) -> str:
    answer = served.client.get("/")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


@pytest.fixture(scope="module")
def elements(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_it_is_the_file_as_it_stands(page: str) -> None:
    assert page == FILE.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(page: str, elements: Elements) -> None:
    for tag, attributes in elements.found:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            target = attributes.get(name)
            local = target is None or target.startswith(("#", "data:image/svg+xml", "/"))
            assert local and not (target or "").startswith("//"), (tag, target)
    without_namespace = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\(|\bimport\s*\(|WebSocket|innerHTML|eval\(|document\.write", without_namespace)


def test_the_policy_allows_its_own_script_and_style_only(served: Served, page: str) -> None:
    policy = served.client.get("/").headers["content-security-policy"]
    for tag in ("script", "style"):
        (block,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert content_security_policy(page.replace('"use strict"', '"use strict"; evil()')) != policy


def test_no_inline_handler_or_style_that_the_policy_would_block(elements: Elements) -> None:
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag


def test_every_control_has_a_label(elements: Elements) -> None:
    labelled = {attributes.get("for") for tag, attributes in elements.found if tag == "label"}
    controls = [attributes for tag, attributes in elements.found if tag in ("input", "select", "textarea")]
    assert len(controls) >= 12
    assert all(control["id"] in labelled for control in controls)


def test_ids_are_unique_and_all_that_the_script_uses_exist(page: str, elements: Elements) -> None:
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'\$\("([a-z_-]+)"\)', page))
    for form in ("generate", "verify"):
        used |= {f"{form}-{part}" for part in re.findall(r"\$\(`\$\{name\}-([a-z]+)`\)", page)}
    assert len(used) > 40 and used <= set(ids)
    for _, attributes in elements.found:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert attributes.get(name) is None or attributes[name] in ids


def test_its_request_fields_are_those_of_the_api(page: str) -> None:
    """The page names its fields as the API does, so that an error can be shown at its field."""
    for field in ("prompt", "issuer", "payload", "strength", "max_new_tokens", "temperature", "top_k", "top_p", "seed"):
        assert f'id="{field}"' in page
    for field in ("text", "issuers", "false_positive_rate"):
        assert f'id="{field}"' in page
