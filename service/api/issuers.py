"""`/issuers`: who can mark texts here. Secrets never leave the server."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from service.api.common import RuntimeDep, responses
from service.errors import Problem
from service.protection.authentication import Actor, requires
from service.runtime import Runtime
from service.schemas.common import IssuerName
from service.schemas.issuers import CreateIssuerRequest, Issuer, IssuersAnswer, RotateIssuerRequest
from service.storage.audit import AuditEntry
from service.storage.issuers import Sound
from watermark.errors import UnknownIssuer

router = APIRouter(prefix="/issuers", tags=["issuers"])

Name = Annotated[IssuerName, Path(description="Name of the issuer.")]
Reader = Depends(requires("generate", "verify"))
Admin = Annotated[Actor, Depends(requires("admin"))]


@router.get("", operation_id="list_issuers", summary="Who can mark texts here", responses=responses(401, 403, 503), dependencies=[Reader])
async def list_issuers(runtime: RuntimeDep) -> IssuersAnswer:
    """All issuers by name, retired ones too; never their secrets."""
    records = await asyncio.to_thread(runtime.require_storage().issuers.list)
    return IssuersAnswer(issuers=[Issuer.model_validate(record) for record in records])


@router.get("/{name}", operation_id="get_issuer", summary="One issuer", responses=responses(401, 403, 404, 422, 503), dependencies=[Reader])
async def get_issuer(name: Name, runtime: RuntimeDep) -> Issuer:
    """With all versions of its key, the oldest first; never their secrets."""
    try:
        return Issuer.model_validate(await asyncio.to_thread(runtime.require_storage().issuers.get, name))
    except UnknownIssuer as error:
        raise Problem(404, UnknownIssuer.code, f"{error} GET /issuers lists them.") from None


@router.post(
    "",
    status_code=201,
    operation_id="create_issuer",
    summary="A new issuer",
    responses=responses(400, 401, 403, 409, 413, 415, 422, 503),
)
async def create_issuer(body: CreateIssuerRequest, request: Request, runtime: RuntimeDep, actor: Admin) -> Issuer:
    """Draws a key that is sound with this checkpoint: one towards which unmarked texts do not lean."""
    sound, audit = await _sound(runtime), AuditEntry(actor.id, "issuer.create", request.state.request_id)
    record = await asyncio.to_thread(runtime.require_storage().issuers.create, body.name, body.payload_bits, sound, audit)
    return Issuer.model_validate(record)


@router.post(
    "/{name}/rotate",
    operation_id="rotate_issuer",
    summary="A fresh key for an issuer",
    responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def rotate_issuer(name: Name, request: Request, runtime: RuntimeDep, actor: Admin, body: RotateIssuerRequest | None = None) -> Issuer:
    """Marks with a new key from now on. Texts marked with the old one go on being verified."""
    sound, audit = await _sound(runtime), AuditEntry(actor.id, "issuer.rotate", request.state.request_id)
    bits = body.payload_bits if body else None
    record = await asyncio.to_thread(runtime.require_storage().issuers.rotate, name, bits, sound, audit)
    return Issuer.model_validate(record)


@router.post(
    "/{name}/retire",
    operation_id="retire_issuer",
    summary="Mark nothing for an issuer any more",
    responses=responses(401, 403, 404, 422, 503),
)
async def retire_issuer(name: Name, request: Request, runtime: RuntimeDep, actor: Admin) -> Issuer:
    """Cannot be undone. Texts that carry its marks go on being verified."""
    audit = AuditEntry(actor.id, "issuer.retire", request.state.request_id)
    return Issuer.model_validate(await asyncio.to_thread(runtime.require_storage().issuers.retire, name, audit))


async def _sound(runtime: Runtime) -> Sound:
    """As the command line checks new keys. Raises CheckpointError."""
    return (await runtime.key_check.get()).sound
