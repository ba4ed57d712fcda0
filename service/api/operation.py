"""For whoever runs the service: metrics and the audit log."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.common import RuntimeDep, responses
from service.protection.authentication import requires
from service.schemas.receipts import AuditAnswer, AuditRecord

router = APIRouter(tags=["operation"])


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics in Prometheus' format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(401, 403, 503)},
    dependencies=[Depends(requires("metrics"))],
)
async def metrics(runtime: RuntimeDep) -> Response:
    """Requests, tokens, queue, verdicts. No address, issuer or API key is in them."""
    return Response(runtime.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/audit",
    operation_id="list_audit_records",
    summary="Who changed what",
    responses=responses(401, 403, 422, 503),
    dependencies=[Depends(requires("admin"))],
)
async def audit(
    runtime: RuntimeDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Records at most.")] = 100,
    before: Annotated[
        int | None, Query(ge=1, lt=2**63, description="Only records older than the one of this id: for the next page.")
    ] = None,
) -> AuditAnswer:
    """The newest first."""
    records = await asyncio.to_thread(runtime.require_storage().audit.list, limit, before)
    return AuditAnswer(records=[AuditRecord.model_validate(record) for record in records])
