"""Between the API's schemas and the library's values, with the limits that only the operator's settings know."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service import schemas
from service.engine import Model
from service.errors import Problem, problem_of
from service.settings import Settings
from service.worker import Entry
from watermark.codebook.keys import IssuerKey, KeyRing
from watermark.errors import InvalidInput, UnknownIssuer
from watermark.sampling.requests import GenerationRequest, GenerationResult, SamplingSettings

DEFAULT_ISSUER = "default"
SEED_BITS = 53
"""Seeds made here stay below 2^53, so that JavaScript clients can repeat them exactly."""


def refuse(pointer: str, detail: str, *, code: str = "invalid_input", status: int = 422) -> Problem:
    return Problem(status, code, f"{pointer}: {detail}", errors=[{"pointer": pointer, "detail": detail, "code": code}])


def generation_requests(body: schemas.GenerateRequest, keys: KeyRing, settings: Settings) -> list[GenerationRequest]:
    """One request per prompt. Raises Problem for what a limit forbids or the library would refuse."""
    prompts = _checked(body.prompt, "prompt", settings.max_prompts, settings.max_prompt_characters)
    if body.max_new_tokens > settings.max_new_tokens:
        raise refuse(
            "/max_new_tokens", f"This server writes at most {settings.max_new_tokens} tokens; {body.max_new_tokens} were asked for."
        )
    if body.min_new_tokens > body.max_new_tokens:
        raise refuse("/min_new_tokens", f"It must be at most max_new_tokens ({body.max_new_tokens}).")
    key = issuer_key(body.issuer, keys)
    payload = int(body.payload, 16) if body.payload else 0
    if payload >= 2**key.payload_bits:
        raise refuse("/payload", f"{payload:#x} does not fit the {key.payload_bits} payload bits of issuer {key.name!r}.")
    sampling = SamplingSettings(
        max_new_tokens=body.max_new_tokens,
        min_new_tokens=body.min_new_tokens,
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
    )
    seeds = prompt_seeds(body.seed, None if isinstance(body.prompt, str) else len(prompts))
    return [
        GenerationRequest(prompt, replace(sampling, seed=seed), key, payload, body.strength)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def prompt_seeds(seed: int | None, count: int | None) -> list[int]:
    """One seed per prompt: `seed` itself for a single prompt (count None), else derived from it and the place in the list."""
    if seed is None:
        return [secrets.randbits(SEED_BITS) for _ in range(count or 1)]
    if count is None:
        return [seed]
    return [int(np.random.SeedSequence([seed, place]).generate_state(1, np.uint64)[0]) >> (64 - SEED_BITS) for place in range(count)]


def check_prompts(model: Model, requests: Sequence[GenerationRequest], single: bool) -> None:
    """What only the tokenizer knows (prompt too long, empty without a begin-of-text token), before any work. Raises Problem."""
    for place, request in enumerate(requests):
        try:
            model.check(request)
        except InvalidInput as error:
            raise problem_of(error, pointer="/prompt" if single else f"/prompt/{place}") from None


def issuer_key(name: str | None, keys: KeyRing) -> IssuerKey:
    """The key that marks: the one named, else `default`, else the only one. Raises Problem."""
    if name is None:
        names = keys.names()
        if not names:
            raise refuse("/issuer", NO_KEYS, code=UnknownIssuer.code, status=404)
        if DEFAULT_ISSUER not in names and len(names) > 1:
            raise refuse("/issuer", f"There is no issuer {DEFAULT_ISSUER!r} and more than one other: name one. GET /issuers lists them.")
        name = DEFAULT_ISSUER if DEFAULT_ISSUER in names else names[0]
    return _load(name, "/issuer", keys)


def verification_keys(names: Sequence[str] | None, keys: KeyRing) -> tuple[IssuerKey, ...]:
    """The keys to test, each once. Raises Problem."""
    if names is None:
        every = tuple(keys.all())
        if not every:
            raise refuse("/issuers", NO_KEYS, code=UnknownIssuer.code, status=404)
        return every
    return tuple(_load(name, f"/issuers/{place}", keys) for place, name in enumerate(names) if name not in names[:place])


NO_KEYS = "There is no issuer yet. On the server, run: countersign keys create NAME."


def _load(name: str, pointer: str, keys: KeyRing) -> IssuerKey:
    try:
        return keys.load(name)
    except UnknownIssuer:
        raise refuse(pointer, f"There is no issuer {name!r}. GET /issuers lists them.", code=UnknownIssuer.code, status=404) from None


def verification_texts(body: schemas.VerifyRequest, settings: Settings) -> list[str]:
    return _checked(body.text, "text", settings.max_texts, settings.max_text_characters)


def _checked(value: str | list[str], field: str, most: int, most_characters: int) -> list[str]:
    single = isinstance(value, str)
    texts = [value] if single else value
    if len(texts) > most:
        raise refuse(f"/{field}", f"This server takes at most {most} in one request; {len(texts)} were sent.")
    for place, text in enumerate(texts):
        if len(text) > most_characters:
            detail = f"This server takes at most {most_characters} characters; this has {len(text)}."
            raise refuse(f"/{field}" if single else f"/{field}/{place}", detail, code=f"{field}_too_long")
    return texts


def generated(result: GenerationResult) -> schemas.GeneratedText:
    return schemas.GeneratedText(
        text=result.text,
        marking=schemas.Marking.model_validate(result.marking),
        usage=schemas.Usage(prompt_tokens=result.prompt_tokens, new_tokens=len(result.token_ids)),
        finish_reason=result.finish_reason,
        seed=result.seed,
    )


def timings(entries: Sequence[Entry]) -> schemas.Timings:
    submitted = min(entry.submitted for entry in entries)
    started = min(entry.started or entry.submitted for entry in entries)
    finished = max(entry.finished or started for entry in entries)
    return schemas.Timings(waited_seconds=round(started - submitted, 4), worked_seconds=round(finished - started, 4))
