"""Probes: is the process up, and are requests served."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.api.common import RuntimeDep
from service.schemas.health import Live, Readiness

router = APIRouter(tags=["health"])


@router.get("/livez", operation_id="livez", summary="Is the process up")
async def livez() -> Live:
    """Answers as long as the process does, also while the model loads."""
    return Live(status="alive")


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Are requests served",
    responses={503: {"model": Readiness, "description": "Not now; `status` says why."}},
)
async def readyz(runtime: RuntimeDep, response: Response) -> Readiness:
    """200 when the model is loaded, its workers and the storage are there and the service is not shutting down; 503 otherwise."""
    readiness = await runtime.readiness()
    if readiness.status != "ready":
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    return readiness
