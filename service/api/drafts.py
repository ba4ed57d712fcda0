"""From what a request says to an `Order`: limits that only the operator's settings know, the issuer's key, prompts as token ids.

Every check comes before any work, and every refusal names its place in the request.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.api.generation import Order
from service.engine.protocol import PromptText
from service.errors import problem_of, refuse
from service.runtime import Runtime
from watermark.codebook.keys import IssuerKey
from watermark.errors import InvalidInput, UnknownIssuer
from watermark.sampling.requests import GenerationRequest, SamplingSettings

DEFAULT_ISSUER = "default"
SEED_BITS = 53
"""Seeds made here stay below 2^53, so that JavaScript clients can repeat them exactly."""
NO_ISSUERS = "There is no issuer yet. POST /issuers creates one; so does, on the server: countersign issuers create NAME."


@dataclass(frozen=True)
class Draft:
    """What to write, before it is checked."""

    prompts: tuple[Prompt, ...]
    sampling: SamplingSettings
    """Its seed is that of the request."""
    issuer: str | None = None
    payload: str | None = None
    """Hexadecimal."""
    strength: float = 1.0
    receipt: bool = True
    listed: bool = False
    """Whether prompts came as a list; each then gets a seed derived from the request's and its place."""
    issuer_pointer: str = "/issuer"
    payload_pointer: str = "/payload"
    max_new_tokens_pointer: str = "/max_new_tokens"


@dataclass(frozen=True)
class Prompt:
    """One prompt at its place in the request."""

    pointer: str
    content: PromptText

    @property
    def characters(self) -> int:
        return len(self.content) if isinstance(self.content, str) else sum(len(message["content"]) for message in self.content)


async def order(runtime: Runtime, draft: Draft) -> Order:
    """Raises Problem for what a limit forbids or the library would refuse, Unavailable, StorageUnavailable."""
    runtime.require_model()
    _check_limits(runtime, draft)
    key = await marking_key(runtime, draft.issuer, draft.issuer_pointer)
    payload = _payload(draft, key)
    different = {prompt.pointer: prompt for prompt in draft.prompts}  # several texts may be written for one prompt
    encoded = {pointer: await _encode(runtime, prompt, draft.sampling.max_new_tokens) for pointer, prompt in different.items()}
    ids = [encoded[prompt.pointer] for prompt in draft.prompts]
    _check_tokens(runtime, draft, ids)
    seeds = prompt_seeds(draft.sampling.seed, len(draft.prompts) if draft.listed else None)
    requests = tuple(
        GenerationRequest(prompt, replace(draft.sampling, seed=seed), key, payload, draft.strength)
        for prompt, seed in zip(ids, seeds, strict=True)
    )
    return Order(requests, draft.receipt, draft.listed)


async def marking_key(runtime: Runtime, name: str | None, pointer: str = "/issuer") -> IssuerKey:
    """The key that marks: of the issuer named, else of `default`, else of the only one that is not retired. Raises Problem."""
    issuers = runtime.require_storage().issuers
    try:
        if name is None:
            names = [record.name for record in await asyncio.to_thread(issuers.list) if record.retired_at is None]
            if not names:
                raise refuse(pointer, NO_ISSUERS, code=UnknownIssuer.code, status=404)
            if DEFAULT_ISSUER not in names and len(names) > 1:
                raise refuse(pointer, f"There is no issuer {DEFAULT_ISSUER!r} and more than one other: name one. GET /issuers lists them.")
            name = DEFAULT_ISSUER if DEFAULT_ISSUER in names else names[0]
        return await asyncio.to_thread(issuers.marking_key, name)
    except UnknownIssuer:
        raise refuse(pointer, f"There is no issuer {name!r}. GET /issuers lists them.", code=UnknownIssuer.code, status=404) from None
    except InvalidInput as error:
        raise problem_of(error, pointer=pointer) from None


def prompt_seeds(seed: int | None, count: int | None) -> list[int]:
    """One seed per prompt: `seed` itself for a single prompt (count None), else derived from it and the place in the list."""
    if seed is None:
        return [secrets.randbits(SEED_BITS) for _ in range(count or 1)]
    if count is None:
        return [seed]
    return [int(np.random.SeedSequence([seed, place]).generate_state(1, np.uint64)[0]) >> (64 - SEED_BITS) for place in range(count)]


def check_count(field: str, count: int, most: int) -> None:
    """Raises Problem."""
    if count > most:
        raise refuse(f"/{field}", f"This server takes at most {most} in one request; {count} were sent.")


def check_characters(pointer: str, characters: int, most: int, code: str) -> None:
    """Raises Problem."""
    if characters > most:
        raise refuse(pointer, f"This server takes at most {most} characters; this has {characters}.", code=code)


def _check_limits(runtime: Runtime, draft: Draft) -> None:
    settings, sampling = runtime.settings, draft.sampling
    check_count(_field(draft), len(draft.prompts), settings.max_prompts)
    for prompt in draft.prompts:
        check_characters(prompt.pointer, prompt.characters, settings.max_prompt_characters, "prompt_too_long")
    if sampling.max_new_tokens > settings.max_new_tokens:
        asked = f"This server writes at most {settings.max_new_tokens} tokens; {sampling.max_new_tokens} were asked for."
        raise refuse(draft.max_new_tokens_pointer, asked)


def _check_tokens(runtime: Runtime, draft: Draft, prompts: Sequence[Sequence[int]]) -> None:
    tokens = sum(map(len, prompts)) + len(prompts) * draft.sampling.max_new_tokens
    if tokens > (most := runtime.settings.queue_tokens):
        place = draft.prompts[0].pointer if len(prompts) == 1 else f"/{_field(draft)}"
        asked = f"This server takes at most {most:,} tokens in one request, prompts and new ones; these are {tokens:,}."
        raise refuse(place, asked, code="too_many_tokens")


def _field(draft: Draft) -> str:
    return draft.prompts[0].pointer.split("/")[1]


def _payload(draft: Draft, key: IssuerKey) -> int:
    payload = int(draft.payload, 16) if draft.payload else 0
    if payload >= 2**key.payload_bits:
        raise refuse(draft.payload_pointer, f"{payload:#x} does not fit the {key.payload_bits} payload bits of issuer {key.name!r}.")
    return payload


async def _encode(runtime: Runtime, prompt: Prompt, max_new_tokens: int) -> tuple[int, ...]:
    try:
        return await runtime.engine.encode(prompt.content, max_new_tokens)
    except InvalidInput as error:
        raise problem_of(error, pointer=prompt.pointer) from None
