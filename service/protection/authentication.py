"""API keys with scopes. Every route that is not public depends on `requires`."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.errors import Problem
from service.protection.rates import RateName, address_identity
from service.runtime import Runtime
from service.storage.api_keys import SCOPES, TOKEN, ApiKeyRecord, Scope

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="countersign"'}

BYTES_PER_CHARACTER = 12
"""Of JSON that writes every character as an escaped surrogate pair."""
PUBLIC_SPARE_BYTES = 4096
"""For all that is not the text."""

bearer = HTTPBearer(
    scheme_name="ApiKey",
    auto_error=False,
    description="An API key, made with `countersign api-keys create` on the server. On loopback none is needed by default.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]


@dataclass(frozen=True)
class Actor:
    """Who asks. `id` names an API key in logs, audit records and limits; it is never the token."""

    id: str
    scopes: frozenset[str]
    public: bool = False

    def may(self, *scopes: Scope) -> bool:
        """Whether any of the scopes is given; `admin` implies all."""
        return "admin" in self.scopes or not self.scopes.isdisjoint(scopes)


LOCAL = Actor("local", frozenset(SCOPES))
"""Whoever is on this machine, where no authentication is asked for."""
ADMIN = Actor("admin_key", frozenset(SCOPES))
"""The key from the settings."""
PUBLIC = Actor("public", frozenset(), public=True)


def requires(*scopes: Scope, rate: RateName | None = None, public: bool = False) -> Callable[..., Awaitable[Actor]]:
    """A dependency that lets in API keys with any of `scopes`, counted against `rate`.

    `public`: without a key, too, where the operator allows public verification; counted by client address.
    """

    async def authorise(request: Request, credentials: Credentials) -> Actor:
        """Raises Problem 401, 403, 413, 429; StorageUnavailable when keys cannot be looked up."""
        runtime: Runtime = request.app.state.runtime
        actor = await _authenticated(runtime, request, credentials, public)
        request.state.actor = actor.id  # for the log line
        if actor.public:
            request.state.answer_headers.update(await runtime.rates.spend("public", _address(request)))
            await _check_public_body(request, runtime.settings.public_text_characters)
            return actor
        if not actor.may(*scopes):
            needed = " or ".join(repr(scope) for scope in (*scopes, *(() if "admin" in scopes else ("admin",))))
            raise Problem(403, "missing_scope", f"This API key has not the scope that is needed here: {needed}.")
        if rate is not None and actor is not LOCAL:
            request.state.answer_headers.update(await runtime.rates.spend(rate, actor.id))
        return actor

    return authorise


async def _authenticated(runtime: Runtime, request: Request, credentials: HTTPAuthorizationCredentials | None, public: bool) -> Actor:
    settings = runtime.settings
    if not settings.authenticated:
        return LOCAL
    if credentials is None:
        if public and settings.public_verification and "authorization" not in request.headers:
            return PUBLIC
        raise unauthenticated("This needs an API key. Send it as: Authorization: Bearer KEY.")
    token = credentials.credentials
    if settings.admin_key is not None and _equal(token, settings.admin_key.get_secret_value()):
        return ADMIN
    record = await _looked_up(runtime, token, _address(request)) if TOKEN.fullmatch(token) else None
    if record is None:
        raise unauthenticated("This API key is unknown, expired or revoked.")
    return Actor(f"api_key/{record.name}", frozenset(record.scopes))


async def _looked_up(runtime: Runtime, token: str, address: str) -> ApiKeyRecord | None:
    """The active key of a token that looks like one. Raises Problem 429 and StorageUnavailable.

    A key that was good before is looked up at any rate: a stranger who shares an address with others must not lock them out.
    """
    store, digest = runtime.require_storage().api_keys, hashlib.sha256(token.encode()).digest()
    counted = digest not in runtime.rates.familiar
    if counted:
        await runtime.rates.spend("strange_key", address)  # before the look, or else many at once would all get one
    good = True
    try:
        record = await asyncio.to_thread(store.authenticate, token)
        good = record is not None
    finally:
        if good and counted:
            runtime.rates.give_back_strange_key(address)
    (runtime.rates.familiar.add if good else runtime.rates.familiar.discard)(digest)
    return record


def _address(request: Request) -> str:
    return address_identity(request.client.host if request.client else None)


async def _check_public_body(request: Request, text_characters: int) -> None:
    """Raises Problem 413, before anything looks into the body: one of an API key may be far longer, and this one is a stranger's."""
    most = BYTES_PER_CHARACTER * text_characters + PUBLIC_SPARE_BYTES
    if len(await request.body()) > most:
        detail = f"Without an API key a text may have at most {text_characters} characters, and the body {most} bytes."
        raise Problem(413, "body_too_large", detail)


def unauthenticated(detail: str) -> Problem:
    return Problem(401, "unauthenticated", detail, headers=CHALLENGE)


def _equal(given: str, expected: str) -> bool:
    """Of digests: comparing takes as long whatever is given, also with another length."""
    digests = [hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, expected)]
    return secrets.compare_digest(*digests)
