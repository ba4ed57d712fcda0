"""API keys: tokens are shown once and stored as hashes; scopes, expiry, revocation."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy import event, text

from service.storage import api_keys as module
from service.storage.api_keys import ApiKeyStore
from service.storage.database import Database
from service.storage.errors import ApiKeyExists, UnknownApiKey
from service.storage.models import now
from watermark.errors import InvalidInput


@pytest.fixture
def store(database: Database) -> ApiKeyStore:
    return ApiKeyStore(database)


def test_a_token_authenticates_its_key(store: ApiKeyStore, database: Database) -> None:
    assert not store.any_active()
    record, token = store.create("page", ["verify", "generate", "verify"])
    assert re.fullmatch(r"csk_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}", token) and record.prefix == token[:12]
    assert record.scopes == ("generate", "verify") and record.active and store.any_active()
    assert store.authenticate(token) == ApiKeyStore(database).authenticate(token) == record
    _, other = store.create("other", ["admin"])
    assert other != token and store.authenticate(other) != record
    assert [r.name for r in store.list()] == ["page", "other"]


def test_nothing_else_authenticates(store: ApiKeyStore) -> None:
    record, token = store.create("page", ["verify"])
    prefix, secret = token[:12], token[13:]
    changed = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    for wrong in ("", prefix, secret, f"{prefix}_{changed}", f"csk_00000000_{secret}", f" {token}", f"{token}\n", token.lower(), "é" * 56):
        assert store.authenticate(wrong) is None
    assert store.authenticate(f"{record.prefix}_{'A' * 43}") is None


def test_the_token_is_not_stored(store: ApiKeyStore, database: Database) -> None:
    _, token = store.create("page", ["verify"])
    with database.reading() as session:
        stored = repr(session.execute(text("SELECT * FROM api_keys")).all())
    assert token not in stored and token[13:] not in stored


def test_a_revoked_key_stops(store: ApiKeyStore, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = store.create("page", ["verify"])
    elsewhere, clock = ApiKeyStore(database), [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    assert elsewhere.authenticate(token) and store.authenticate(token)
    revoked = store.revoke("page")
    assert revoked.revoked_at is not None and store.revoke("page") == revoked
    assert store.authenticate(token) is None and not store.any_active()
    clock[0] = 5.0  # another process, at the latest
    assert elsewhere.authenticate(token) is None


def test_an_expired_key_stops(store: ApiKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record, token = store.create("page", ["verify"], now() + timedelta(hours=1))
    assert store.authenticate(token) == record
    later = now() + timedelta(hours=2)
    monkeypatch.setattr(module, "now", lambda: later)
    assert store.authenticate(token) is None and not store.any_active()


def test_accepted_tokens_cost_no_query_for_a_while(sqlite: Database) -> None:
    store = ApiKeyStore(sqlite)
    _, token = store.create("page", ["verify"])
    statements: list[str] = []
    event.listen(sqlite.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    assert all(store.authenticate(token) for _ in range(20))
    assert len([s for s in statements if s.startswith("SELECT")]) == 1


def test_what_cannot_be(store: ApiKeyStore) -> None:
    store.create("page", ["verify"])
    with pytest.raises(ApiKeyExists, match="'page' exists already"):
        store.create("page", ["verify"])
    store.revoke("page")
    with pytest.raises(ApiKeyExists, match="perhaps a revoked one"):
        store.create("page", ["verify"])
    with pytest.raises(UnknownApiKey, match="'nobody'"):
        store.revoke("nobody")
    for scopes in ([], ["root"], ["verify", "root"]):
        with pytest.raises(InvalidInput, match="generate, verify, metrics, admin"):
            store.create("key", scopes)
    with pytest.raises(InvalidInput, match="no name for an API key"):
        store.create("Not A Name", ["verify"])
    with pytest.raises(InvalidInput, match="expired already"):
        store.create("key", ["verify"], now())
