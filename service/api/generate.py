"""`POST /generate`: prompts in, marked text out; at once, or as it is written."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.sse import format_sse_event
from pydantic import BaseModel

from service.api import drafts
from service.api.common import RuntimeDep, responses
from service.api.drafts import Draft, Prompt
from service.api.generation import Generated, Generation, finish
from service.api.sse import EVENT_CONTENT, event_stream
from service.errors import Problem, problem_of, refuse
from service.protection.authentication import Actor, requires
from service.runtime import Runtime
from service.schemas.generate import (
    GenerateAnswer,
    GeneratedText,
    GenerateRequest,
    Marking,
    Piece,
    StreamedResult,
    StreamEnd,
    Usage,
)
from watermark.sampling.requests import SamplingSettings

router = APIRouter(tags=["watermark"])

IDEMPOTENCY_KEY = Header(
    alias="Idempotency-Key",
    min_length=1,
    max_length=255,
    pattern=r"^[!-~]+$",
    description="Any string of visible ASCII that is new for each request, such as a UUID. A request that is sent again with the same "
    "key and content is not done again: it gets the first one's answer, with `Idempotency-Replayed: true`, also when that is still "
    "being written. Errors are not kept. Not with `stream`.",
)
STREAM = {
    "description": "The texts; with `stream`, as server-sent events: `piece` (Piece), `result` (StreamedResult), `done` (StreamEnd), "
    "`error` (Problem).",
    "content": EVENT_CONTENT,
    "headers": {
        "Idempotency-Replayed": {"description": "`true` on the answer to an earlier request.", "schema": {"type": "string"}},
    },
}


@router.post(
    "/generate",
    operation_id="generate",
    summary="Continue prompts with marked text",
    responses={200: STREAM, **responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 504)},
    response_model=GenerateAnswer,
)
async def generate(
    body: GenerateRequest,
    request: Request,
    runtime: RuntimeDep,
    actor: Annotated[Actor, Depends(requires("generate", rate="generate"))],
    idempotency_key: Annotated[str | None, IDEMPOTENCY_KEY] = None,
) -> GenerateAnswer | Response:
    """Continues each prompt and marks the continuation with the issuer's key. The answer says what the mark amounts to."""
    if idempotency_key is not None:
        if body.stream:
            raise refuse("/stream", "A stream cannot be sent again: leave out the Idempotency-Key header, or `stream`.")

        async def once() -> bytes:
            return (await _answer(runtime, body, request)).model_dump_json().encode()

        digest = hashlib.sha256(body.model_dump_json().encode()).digest()
        content, replayed = await finish(request, runtime.idempotency.once(actor.id, idempotency_key, digest, once))
        headers = {"Idempotency-Replayed": "true"} if replayed else {}
        return Response(content, media_type="application/json", headers=headers)
    if body.stream:
        generation = await Generation.submit(runtime, await _order(runtime, body), request)
        return event_stream(request, _frames(runtime, generation, request.url.path))
    return await finish(request, _answer(runtime, body, request))


async def _order(runtime: Runtime, body: GenerateRequest) -> drafts.Order:
    if body.min_new_tokens > body.max_new_tokens:
        raise refuse("/min_new_tokens", f"It must be at most max_new_tokens ({body.max_new_tokens}).")
    single = isinstance(body.prompt, str)
    texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    draft = Draft(
        prompts=tuple(Prompt("/prompt" if single else f"/prompt/{place}", text) for place, text in enumerate(texts)),
        sampling=SamplingSettings(
            max_new_tokens=body.max_new_tokens,
            min_new_tokens=body.min_new_tokens,
            temperature=body.temperature,
            top_k=body.top_k,
            top_p=body.top_p,
            seed=body.seed,
            stop=tuple(body.stop or ()),
        ),
        issuer=body.issuer,
        payload=body.payload,
        strength=body.strength,
        receipt=body.receipt,
        listed=not single,
    )
    return await drafts.order(runtime, draft)


async def _answer(runtime: Runtime, body: GenerateRequest, request: Request) -> GenerateAnswer:
    generation = await Generation.submit(runtime, await _order(runtime, body), request)
    results = [GeneratedText(**_fields(generated)) for generated in await generation.results()]
    return GenerateAnswer(results=results, timings=generation.timings(), **_identity(generation))


async def _frames(runtime: Runtime, generation: Generation, instance: str) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(generation.events()) as events:
            async for index, item in events:
                if isinstance(item, Generated):
                    yield _frame("result", StreamedResult(index=index, **_fields(item)))
                else:
                    yield _frame("piece", Piece(index=index, text=item.text, tokens=item.tokens))
        yield _frame("done", StreamEnd(timings=generation.timings(), **_identity(generation)))
    except Exception as error:
        problem = problem_of(error)
        runtime.metrics.refused(problem.code, problem.status_code)
        yield _frame("error", problem_model(problem, instance))


def problem_model(problem: Problem, instance: str) -> BaseModel:
    """A problem as the data of an event."""
    from service.schemas.problem import Problem as ProblemSchema

    return ProblemSchema(**problem.body(instance))


def _frame(event: str, data: BaseModel) -> bytes:
    return format_sse_event(event=event, data_str=data.model_dump_json(exclude_none=event == "error"))


def _fields(generated: Generated) -> dict[str, Any]:
    result = generated.result
    return {
        "id": generated.id,
        "text": result.text,
        "marking": Marking.model_validate(result.marking),
        "usage": Usage(prompt_tokens=result.prompt_tokens, new_tokens=len(result.token_ids)),
        "finish_reason": result.finish_reason,
        "seed": result.seed,
        "receipt_id": generated.receipt_id,
    }


def _identity(generation: Generation) -> dict[str, str]:
    return {"id": generation.id, "model": generation.model.model, "checkpoint": generation.model.checkpoint}
