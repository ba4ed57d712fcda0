"""The endpoints. Validation comes before work: one bad item refuses the whole request and names its place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service import convert, schemas
from service.engine import Engine, ItemFailed, VerifyGroup, results_of
from service.errors import PROBLEM, problem_of
from service.runtime import Runtime
from service.worker import BatchWorker, Entry

router = APIRouter()


def _runtime(request: Request) -> Runtime:
    return request.app.state.runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


@router.post("/generate", operation_id="generate", tags=["watermark"], summary="Continue prompts with marked text", responses=PROBLEM)
async def generate(body: schemas.GenerateRequest, request: Request, runtime: RuntimeDep) -> schemas.GenerateAnswer:
    """Continues each prompt and marks the continuation with the issuer's key. The answer says what the mark amounts to."""
    engine = runtime.require_engine()
    requests = await asyncio.to_thread(convert.generation_requests, body, runtime.keys, runtime.settings)
    engine.generation.ensure_room(len(requests))
    single = isinstance(body.prompt, str)
    await asyncio.to_thread(convert.check_prompts, engine.model, requests, single)
    entries = engine.submit_prompts(requests, request.state.request_id)
    results = await _finish(request, engine.generation, entries, single)
    return schemas.GenerateAnswer(
        results=[convert.generated(result) for result in results], timings=convert.timings(entries), **_identity(engine)
    )


@router.post("/verify", operation_id="verify", tags=["watermark"], summary="Test texts for a mark", responses=PROBLEM)
async def verify(body: schemas.VerifyRequest, request: Request, runtime: RuntimeDep) -> schemas.VerifyAnswer:
    """Tests each text for the marks of the issuers. Needs the text alone: no prompt, no record of what was generated."""
    engine = runtime.require_engine()
    texts = convert.verification_texts(body, runtime.settings)
    keys = await asyncio.to_thread(convert.verification_keys, body.issuers, runtime.keys)
    entries = engine.submit_texts(texts, VerifyGroup(keys, body.false_positive_rate, body.detail), request.state.request_id)
    results = await _finish(request, engine.verification, entries, isinstance(body.text, str))
    return schemas.VerifyAnswer(
        results=[schemas.Verdict.model_validate(result) for result in results], timings=convert.timings(entries), **_identity(engine)
    )


@router.get("/issuers", operation_id="list_issuers", tags=["watermark"], summary="Who can mark texts here", responses=PROBLEM)
async def issuers(runtime: RuntimeDep) -> schemas.IssuersAnswer:
    """Names and payload sizes of all issuers; never their keys."""
    keys = await asyncio.to_thread(runtime.keys.all)
    return schemas.IssuersAnswer(issuers=[schemas.Issuer(name=key.name, payload_bits=key.payload_bits) for key in keys])


@router.get("/livez", operation_id="livez", tags=["health"], summary="Is the process up")
async def livez() -> schemas.Live:
    """Answers as long as the process does, also while the model loads."""
    return schemas.Live(status="alive")


@router.get(
    "/readyz",
    operation_id="readyz",
    tags=["health"],
    summary="Are requests served",
    responses={503: {"model": schemas.Readiness, "description": "Not now; `status` says why."}},
)
async def readyz(runtime: RuntimeDep, response: Response) -> schemas.Readiness:
    """200 when the model is loaded, both workers are alive and the service is not shutting down; 503 otherwise."""
    readiness = runtime.readiness()
    if readiness.status != "ready":
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    return readiness


async def _finish(request: Request, worker: BatchWorker, entries: Sequence[Entry[Any, Any]], single: bool) -> list[Any]:
    """Wait for all results. When the client leaves, or one item fails, the entries give back their places. Raises Problem."""
    work = asyncio.ensure_future(results_of(entries))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientGone
        return work.result()
    except ItemFailed as failed:
        assert failed.__cause__ is not None
        problem = problem_of(failed.__cause__)
        if not single:
            problem.extra["item"] = failed.place
        raise problem from None
    finally:
        worker.abandon(entries)  # done ones are not touched by it
        work.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _identity(engine: Engine) -> dict[str, str]:
    return {"model": engine.model.lm.name, "checkpoint": engine.model.name}
