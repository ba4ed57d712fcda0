"""API keys and scopes, on every route that the app has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from limits import parse_many

from service.protection.rates import STRANGE_KEY_RATE
from service.storage.api_keys import SCOPES
from tests.service.harness import Served, problem, serving, small_settings

ADMIN_KEY = "the-first-key-of-a-deployment-0123456789"
PUBLIC = {
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/signing-keys"),
    ("GET", "/openapi.json"),
    ("GET", "/"),
}
"""For everybody. So are the page's own files, and one text at a time on POST /verify: see test_public.py."""
NEEDS = {
    ("POST", "/generate"): {"generate"},
    ("POST", "/verify"): {"verify"},
    ("GET", "/issuers"): {"generate", "verify"},
    ("GET", "/issuers/{name}"): {"generate", "verify"},
    ("POST", "/issuers"): set(),
    ("POST", "/issuers/{name}/rotate"): set(),
    ("POST", "/issuers/{name}/retire"): set(),
    ("GET", "/receipts/{receipt_id}"): {"generate", "verify"},
    ("GET", "/metrics"): {"metrics"},
    ("GET", "/audit"): set(),
    ("POST", "/v1/completions"): {"generate"},
    ("POST", "/v1/chat/completions"): {"generate"},
    ("GET", "/v1/models"): {"generate", "verify"},
    ("GET", "/v1/models/{model:path}"): {"generate", "verify"},
}
"""Scopes of which one is needed, where `admin` does as well."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = small_settings(Path(tmp_path_factory.mktemp("guarded")), authentication=True, admin_key=ADMIN_KEY, public_verification=False)
    with serving(settings) as running:
        yield running


@pytest.fixture(scope="module")
def keys(guarded: Served) -> dict[str, dict[str, str]]:
    return {scope: guarded.api_key(f"only-{scope}", scope) for scope in SCOPES}


def routes(served: Served) -> set[tuple[str, str]]:
    found = iter_route_contexts(served.app.routes)
    return {(method, str(route.path)) for route in found for method in (route.methods or ()) if method != "HEAD"}


def call(served: Served, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    path = path.replace("{name}", "no-such").replace("{receipt_id}", "rcp_x").replace("{model:path}", "fake-model")
    return served.client.request(method, path, headers=headers, json={} if method == "POST" else None)


def refusal(answer: httpx.Response) -> str:
    """The code of an error, in either shape."""
    body = answer.json()
    return body["error"]["code"] if "error" in body else body["code"]


def test_every_route_is_public_on_purpose_or_refuses(guarded: Served, keys: dict[str, dict[str, str]]) -> None:
    found = {(method, path) for method, path in routes(guarded) if not path.startswith("/static/")}
    assert found == PUBLIC | set(NEEDS), "a new route: decide who may use it, and say so here"
    for method, path in PUBLIC:
        assert call(guarded, method, path, {}).status_code == 200, path
    for (method, path), scopes in NEEDS.items():
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer csk_AAAAAAAA_{'A' * 43}"}):
            answer = call(guarded, method, path, headers)
            assert answer.status_code == 401, (path, headers, answer.text)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for scope, headers in keys.items():
            answer = call(guarded, method, path, headers)
            if scope in scopes or scope == "admin":
                assert answer.status_code not in (401, 403), (path, scope, answer.text)
            else:
                assert answer.status_code == 403 and refusal(answer) == "missing_scope", (path, scope, answer.text)


def test_what_is_refused_is_not_done(guarded: Served, keys: dict[str, dict[str, str]]) -> None:
    for headers in ({}, keys["verify"], keys["generate"], keys["metrics"]):
        guarded.client.post("/issuers", json={"name": "sneaked"}, headers=headers)
        guarded.client.post("/issuers/default/retire", headers=headers)
    assert [record.name for record in guarded.storage.issuers.list() if record.retired_at is None] == ["default", "newsroom"]


def test_only_what_is_no_json_is_answered_before_a_missing_key(guarded: Served) -> None:
    for body in ({"prompt": 7}, {"prompt": "a", "issuer": "nobody"}, []):
        problem(guarded.client.post("/generate", json=body), 401, "unauthenticated")
    problem(guarded.client.post("/generate", content="{", headers={"Content-Type": "application/json"}), 400, "invalid_json")
    problem(guarded.client.get("/issuers/nobody"), 401, "unauthenticated")
    problem(guarded.client.get("/nowhere"), 404, "not_found")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic dXNlcjpwYXNz", "Token x", "Bearer \u00fc\u00df", "Bearer a b", "Bearer " + "x" * 5000]
)
def test_other_headers_are_no_key(guarded: Served, header: str) -> None:
    answer = guarded.client.get("/issuers", headers={b"Authorization": header.encode()})
    body = problem(answer, 401, "unauthenticated")
    assert not header[8:] or header[8:] not in str(body)


def test_the_admin_key_of_the_settings_may_do_everything(guarded: Served) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    assert guarded.client.post("/issuers", json={"name": "by-admin"}, headers=headers).status_code == 201
    assert guarded.client.get("/metrics", headers=headers).status_code == 200
    assert guarded.client.get("/audit?limit=1", headers=headers).json()["records"][0]["actor"] == "admin_key"
    guarded.storage.issuers.retire("by-admin")
    for near in (ADMIN_KEY[:-1], ADMIN_KEY + "x", ADMIN_KEY.upper()):
        problem(guarded.client.get("/audit", headers={"Authorization": f"Bearer {near}"}), 401, "unauthenticated")


def test_the_audit_log_names_the_key_and_never_its_token(guarded: Served) -> None:
    headers = guarded.api_key("operator", "admin")
    assert guarded.client.post("/issuers", json={"name": "audited"}, headers=headers).status_code == 201
    answer = guarded.client.get("/audit?limit=1", headers=headers)
    assert answer.json()["records"][0]["actor"] == "api_key/operator"
    assert headers["Authorization"].removeprefix("Bearer ") not in answer.text


def test_keys_end(guarded: Served) -> None:
    headers = guarded.api_key("short-lived", "verify")
    assert guarded.client.get("/issuers", headers=headers).status_code == 200
    guarded.runtime.require_storage().api_keys.revoke("short-lived")
    problem(guarded.client.get("/issuers", headers=headers), 401, "unauthenticated")
    _, token = guarded.storage.api_keys.create("over", ["verify"], datetime.now(UTC) + timedelta(milliseconds=1))
    problem(guarded.client.get("/issuers", headers={"Authorization": f"Bearer {token}"}), 401, "unauthenticated")


def test_unknown_keys_are_limited_by_address_and_lock_nobody_out(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, authentication=True, admin_key=ADMIN_KEY, trusted_proxies="127.0.0.1")
    with serving(settings) as served:
        most = parse_many(STRANGE_KEY_RATE)[0].amount
        known, late = served.api_key("known", "verify"), served.api_key("late", "verify")

        def ask(headers: dict[str, str], address: str = "192.0.2.1") -> httpx.Response:
            return served.client.get("/issuers", headers={**headers, "X-Forwarded-For": address})

        for _ in range(most + 1):
            assert ask(known).status_code == 200  # good keys cost nothing
        for place in range(most):
            problem(ask({"Authorization": f"Bearer csk_AAAAAAAA_{place:043}"}), 401, "unauthenticated")
        refused = ask({"Authorization": f"Bearer csk_AAAAAAAA_{most:043}"})
        problem(refused, 429, "rate_limited")
        assert ask(known).status_code == ask({"Authorization": f"Bearer {ADMIN_KEY}"}).status_code == 200
        problem(ask(late), 429, "rate_limited")  # never seen here: it cannot be told from a guess without a look
        assert ask(late, "192.0.2.2").status_code == ask(late).status_code == 200
        served.runtime.require_storage().api_keys.revoke("known")
        problem(ask(known), 401, "unauthenticated")
        problem(ask(known), 429, "rate_limited")


def test_any_host_name_is_answered_where_keys_are_asked_for(guarded: Served) -> None:
    assert guarded.client.get("/livez", headers={"Host": "marks.example"}).status_code == 200


def test_without_the_storage_nobody_is_let_in_or_called_unknown(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, authentication=True, admin_key=ADMIN_KEY)) as served:
        headers = served.api_key("somebody", "verify")
        (tmp_path / "countersign.db").rename(tmp_path / "away")
        problem(served.client.get("/issuers", headers=headers), 503, "storage_unavailable")
        assert served.client.get("/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).status_code == 200
