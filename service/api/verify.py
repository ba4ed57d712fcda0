"""`POST /verify`: texts in, verdicts out. With an API key in full, without one as the public detector."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from service.api.common import RuntimeDep, responses
from service.api.drafts import NO_ISSUERS, check_characters, check_count
from service.api.generation import finish, timings
from service.engine.protocol import Detail, Ticket, VerificationRequest
from service.errors import Problem, refuse
from service.protection.authentication import Actor, requires, unauthenticated
from service.runtime import Runtime
from service.schemas.verify import TokenEvidence, Verdict, VerifyAnswer, VerifyRequest
from watermark.codebook.keys import IssuerKey
from watermark.errors import UnknownIssuer
from watermark.statistics import verdict as library

EVIDENCE_AT_ONCE = 1000
"""Tokens whose evidence is put into shape without a break: some ten milliseconds."""

router = APIRouter(tags=["watermark"])


@router.post(
    "/verify",
    operation_id="verify",
    summary="Test texts for a mark",
    responses=responses(400, 401, 403, 404, 413, 415, 422, 429, 503, 504),
    openapi_extra={"security": [{}]},  # beside the API key: the public may, too
)
async def verify(
    body: VerifyRequest,
    request: Request,
    runtime: RuntimeDep,
    actor: Annotated[Actor, Depends(requires("verify", rate="verify", public=True))],
) -> VerifyAnswer:
    """Tests each text for the marks of the issuers. Needs the text alone: no prompt, no record of what was generated.

    Without an API key, where the operator allows it: one text, a coarse answer, and nothing is kept.
    """
    card = runtime.require_model()
    single = isinstance(body.text, str)
    texts = [body.text] if isinstance(body.text, str) else body.text
    if actor.public:
        _check_public(body, texts)
    check_count("text", len(texts), runtime.settings.max_texts)
    most = runtime.settings.public_text_characters if actor.public else runtime.settings.max_text_characters
    for place, text in enumerate(texts):
        check_characters("/text" if single else f"/text/{place}", len(text), most, "text_too_long")
    keys = await _keys(runtime, body.issuers)
    detail: Detail = body.detail or ("public" if actor.public else "full")
    work = VerificationRequest(tuple(texts), keys, body.false_positive_rate, detail)
    ticket = await runtime.engine.submit_verification(work, tag=request.state.request_id)
    deadline = request.state.arrived + runtime.settings.deadline_seconds
    verdicts, receipts = await finish(request, _verdicts(runtime, ticket, deadline, texts if detail == "full" else None))
    return VerifyAnswer(
        results=[await _answered(*pair) for pair in zip(verdicts, receipts, strict=True)],
        model=card.model,
        checkpoint=card.checkpoint,
        timings=timings([ticket], request.state.arrived),
    )


async def _answered(verdict: library.Verdict, receipts: list[str] | None) -> Verdict:
    """The evidence of a hundred thousand tokens takes most of a second to be put into shape, so others have their turn in between."""
    evidence: list[TokenEvidence] | None = None
    if verdict.evidence is not None:
        evidence = []
        for start in range(0, len(verdict.evidence), EVIDENCE_AT_ONCE):
            evidence += [TokenEvidence.model_validate(token) for token in verdict.evidence[start : start + EVIDENCE_AT_ONCE]]
            await asyncio.sleep(0)
    answer = Verdict.model_validate(replace(verdict, evidence=None))
    return answer.model_copy(update={"receipts": receipts, "evidence": evidence})


def _check_public(body: VerifyRequest, texts: list[str]) -> None:
    """Raises Problem for what is not for everybody."""
    if body.detail == "full":
        raise unauthenticated("Full detail needs an API key. Without one, leave out `detail`.")
    if "false_positive_rate" in body.model_fields_set:
        raise unauthenticated("To choose the false-positive rate needs an API key. Without one, leave out `false_positive_rate`.")
    if body.issuers is not None:  # whose names would be tried out by what is not found
        raise unauthenticated("To choose the issuers needs an API key. Without one, leave out `issuers`: all are looked for.")
    if len(texts) > 1:
        raise unauthenticated("More than one text needs an API key. Without one, send them one by one.")


async def _keys(runtime: Runtime, names: list[str] | None) -> tuple[IssuerKey, ...]:
    """Every version of the issuers' keys, the retired ones too. Raises Problem."""
    issuers = runtime.require_storage().issuers
    try:
        keys = await asyncio.to_thread(issuers.verification_keys, names)
    except UnknownIssuer:
        known = {record.name for record in await asyncio.to_thread(issuers.list)}
        unknown = next(((place, name) for place, name in enumerate(names or ()) if name not in known), None)
        if unknown is not None:
            place, name = unknown
            raise refuse(f"/issuers/{place}", f"There is no issuer {name!r}.", code=UnknownIssuer.code, status=404) from None
        # Created between the two readings, and no issuer is ever deleted.
        keys = await asyncio.to_thread(issuers.verification_keys, names)
    if not keys:
        raise refuse("/issuers", NO_ISSUERS, code=UnknownIssuer.code, status=404)
    return keys


async def _verdicts(
    runtime: Runtime, ticket: Ticket, deadline: float, kept: list[str] | None
) -> tuple[list[library.Verdict], list[list[str] | None]]:
    """The verdicts, and for the texts `kept` the ids of their receipts. Raises Problem."""
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            verdicts = await runtime.engine.verdicts(ticket)
            runtime.metrics.verified(ticket, verdicts)
            if kept is None:
                return verdicts, [None] * len(verdicts)
            return verdicts, await asyncio.to_thread(_receipts, runtime, kept)
    except TimeoutError:
        raise Problem(
            504, "deadline_exceeded", "The verification was not done in time. Send fewer or shorter texts, or try later."
        ) from None
    finally:
        runtime.engine.cancel([ticket])


def _receipts(runtime: Runtime, texts: list[str]) -> list[list[str] | None]:
    receipts = runtime.require_storage().receipts
    return [[match.document.receipt.id for match in receipts.find(text)] for text in texts]
