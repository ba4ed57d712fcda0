"""`POST /v1/completions`: texts continued, in OpenAI's form."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from service.api import drafts
from service.api.common import RuntimeDep
from service.api.generation import Generated, Generation, finish
from service.api.openai.answers import chunks, head, ours, ours_of, usage
from service.api.openai.errors import openai_responses
from service.api.openai.orders import completion_draft
from service.api.sse import EVENT_CONTENT, event_stream
from service.protection.authentication import Actor, requires
from service.schemas.openai import Completion, CompletionChoice, CompletionRequest

router = APIRouter(tags=["openai"])
STREAM = {
    "description": "The texts; with `stream`, as server-sent events that hold `Completion` objects.",
    "content": EVENT_CONTENT,
}


@router.post(
    "/v1/completions",
    operation_id="openai_completions",
    summary="Continue prompts, as OpenAI's API does",
    responses={200: STREAM, **openai_responses(400, 401, 403, 404, 409, 413, 415, 429, 503, 504)},
    response_model=Completion,
)
async def completions(
    body: CompletionRequest, request: Request, runtime: RuntimeDep, _actor: Annotated[Actor, Depends(requires("generate", rate="generate"))]
) -> Completion | Response:
    """Continues prompts with marked text. What is ours, in request and answer, is under `countersign`."""
    order = await drafts.order(runtime, completion_draft(runtime, body))
    generation = await Generation.submit(runtime, order, request)
    make, n = partial(Completion, **head(generation, "cmpl")), body.n or 1
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return event_stream(request, chunks(runtime, generation, make, _growing, n=n, include_usage=include_usage))
    texts = await finish(request, generation.results())
    choices = [_choice(index, generated.result.text, generated) for index, generated in enumerate(texts)]
    return make(choices=choices, usage=usage(texts, n), countersign=ours(generation))


def _choice(index: int, text: str, generated: Generated | None) -> CompletionChoice:
    if generated is None:
        return CompletionChoice(index=index, text=text, finish_reason=None)
    return CompletionChoice(index=index, text=text, finish_reason=generated.result.finish_reason, countersign=ours_of(generated))


def _growing(index: int, text: str | None, generated: Generated | None) -> CompletionChoice | None:
    return None if text is None and generated is None else _choice(index, text or "", generated)
