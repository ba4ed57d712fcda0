"""`POST /v1/chat/completions`: conversations continued, in OpenAI's form, by models that have a chat template."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from service.api import drafts
from service.api.common import RuntimeDep
from service.api.generation import Generated, Generation, finish
from service.api.openai.answers import chunks, head, ours, ours_of, usage
from service.api.openai.errors import openai_responses
from service.api.openai.orders import chat_draft
from service.api.sse import EVENT_CONTENT, event_stream
from service.protection.authentication import Actor, requires
from service.schemas.openai import (
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatDelta,
    ChatMessage,
)

router = APIRouter(tags=["openai"])
STREAM = {
    "description": "The texts; with `stream`, as server-sent events that hold `ChatCompletionChunk` objects.",
    "content": EVENT_CONTENT,
}


@router.post(
    "/v1/chat/completions",
    operation_id="openai_chat_completions",
    summary="Answer in a conversation, as OpenAI's API does",
    responses={200: STREAM, **openai_responses(400, 401, 403, 404, 409, 413, 415, 429, 503, 504)},
    response_model=ChatCompletion,
)
async def chat_completions(
    body: ChatCompletionRequest,
    request: Request,
    runtime: RuntimeDep,
    _actor: Annotated[Actor, Depends(requires("generate", rate="generate"))],
) -> ChatCompletion | Response:
    """Writes the next turn, marked. Messages are read as prose: control tokens in them do not count as such."""
    order = await drafts.order(runtime, chat_draft(runtime, body))
    generation = await Generation.submit(runtime, order, request)
    about, n = head(generation, "chatcmpl"), body.n or 1
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        make = partial(ChatCompletionChunk, **about)
        return event_stream(request, chunks(runtime, generation, make, _growing, n=n, include_usage=include_usage))
    texts = await finish(request, generation.results())
    choices = [
        ChatChoice(
            index=index,
            message=ChatMessage(content=generated.result.text),
            finish_reason=generated.result.finish_reason,
            countersign=ours_of(generated),
        )
        for index, generated in enumerate(texts)
    ]
    return ChatCompletion(**about, choices=choices, usage=usage(texts, n), countersign=ours(generation))


def _growing(index: int, text: str | None, generated: Generated | None) -> ChatChunkChoice:
    if generated is not None:
        reason = generated.result.finish_reason
        return ChatChunkChoice(index=index, delta=ChatDelta(), finish_reason=reason, countersign=ours_of(generated))
    return ChatChunkChoice(index=index, delta=ChatDelta(role="assistant", content="") if text is None else ChatDelta(content=text))
