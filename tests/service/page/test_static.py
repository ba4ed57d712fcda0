"""The page's files as they are served: nothing from elsewhere, nothing that its policy would block, nothing without a label."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.page import FOLDER, page_router
from service.schemas.generate import GenerateRequest
from service.schemas.verify import VerifyRequest

VOID = {"meta", "link", "input", "br", "hr", "img", "path", "rect"}
SCRIPTS = sorted(FOLDER.glob("*.js"))


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
def client() -> TestClient:
    app = FastAPI()
    app.include_router(page_router())
    return TestClient(app)


@pytest.fixture(scope="module")
def elements(client: TestClient) -> Elements:
    parser = Elements()
    parser.feed(client.get("/").text)
    assert parser.open == []
    return parser


def test_every_file_is_served_as_it_stands_and_as_what_it_is(client: TestClient) -> None:
    kinds = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
    files = list(FOLDER.iterdir())
    assert {file.suffix for file in files} == set(kinds)
    for file in files:
        answer = client.get("/" if file.name == "index.html" else f"/static/{file.name}")
        assert answer.status_code == 200 and answer.content == file.read_bytes()
        assert answer.headers["content-type"] == kinds[file.suffix]
    assert client.get("/static/index.html").status_code == client.get("/static/..%2fpage.py").status_code == 404


def test_the_policy_allows_its_own_files_and_nothing_inline(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["form-action"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in policy and "http" not in policy


def test_nothing_is_loaded_from_elsewhere(elements: Elements) -> None:
    for tag, attributes in elements.found:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            target = attributes.get(name) or ""
            assert ":" not in target.removeprefix("data:image/svg+xml,") or target.startswith("data:image/svg+xml,"), (tag, target)
            assert not target.startswith("/"), "addresses are relative, so that the service can stand behind a path of a proxy"
    for file in [*SCRIPTS, FOLDER / "page.css"]:
        forbidden = r"https?://|@import|url\(|import\(|WebSocket|innerHTML|outerHTML|insertAdjacent|\beval\b|document\.write|localStorage"
        assert not re.search(forbidden, file.read_text(encoding="utf-8")), file.name


def test_no_inline_script_handler_or_style_that_the_policy_would_block(elements: Elements) -> None:
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert tag != "style" and (tag != "script" or attributes["src"])


def test_every_control_has_a_label(elements: Elements) -> None:
    labelled = {attributes.get("for") for tag, attributes in elements.found if tag == "label"}
    controls = [attributes for tag, attributes in elements.found if tag in ("input", "select", "textarea")]
    assert len(controls) >= 18
    assert all(control["id"] in labelled for control in controls)


def test_ids_are_unique_and_all_that_the_scripts_use_exist(elements: Elements) -> None:
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    script = "".join(file.read_text(encoding="utf-8") for file in SCRIPTS)
    used = set(re.findall(r'\$\("([A-Za-z_-]+)"\)', script))
    for form in ("generate", "verify"):
        used |= {f"{form}-{part}" for part in re.findall(r"\$\(`\$\{name\}-([a-z]+)`\)", script)}
    assert len(used) > 60 and used <= set(ids)
    for _, attributes in elements.found:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert attributes.get(name) is None or attributes[name] in ids


@pytest.mark.parametrize(("request_type", "left_out"), [(GenerateRequest, {"stream"}), (VerifyRequest, {"detail"})])
def test_each_request_field_has_a_control_of_its_name(elements: Elements, request_type: type, left_out: set[str]) -> None:
    """An error can be shown at its field that way; `detail` is the server's to choose."""
    controls = {attributes.get("id") for tag, attributes in elements.found if tag in ("input", "select", "textarea")}
    assert set(request_type.model_fields) - left_out <= controls  # pyright: ignore[reportAttributeAccessIssue]
