"""Finished and growing texts in OpenAI's form. What both endpoints share; how their choices look is theirs."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from fastapi.sse import format_sse_event
from pydantic import BaseModel

from service.api.generation import Generated, Generation
from service.api.openai.errors import error_answer
from service.errors import problem_of
from service.runtime import Runtime
from service.schemas.generate import Marking
from service.schemas.openai import CompletionUsage, CountersignAnswer, CountersignChoice

MakeChunk = Callable[..., BaseModel]
MakeChoice = Callable[[int, str | None, Generated | None], BaseModel | None]


def head(generation: Generation, prefix: str) -> dict[str, Any]:
    """What every answer, and every chunk of one, begins with."""
    model = generation.model
    return {"id": f"{prefix}-{generation.id}", "created": int(time.time()), "model": model.model, "system_fingerprint": model.checkpoint}


def ours(generation: Generation) -> CountersignAnswer:
    return CountersignAnswer(checkpoint=generation.model.checkpoint, timings=generation.timings())


def ours_of(generated: Generated) -> CountersignChoice:
    result = generated.result
    marking = Marking.model_validate(result.marking)
    return CountersignChoice(id=generated.id, marking=marking, seed=result.seed, receipt_id=generated.receipt_id)


def usage(texts: Sequence[Generated], n: int) -> CompletionUsage:
    """Of texts in order, `n` for each prompt; a prompt counts once."""
    prompt_tokens = sum(generated.result.prompt_tokens for generated in texts[::n])
    new_tokens = sum(len(generated.result.token_ids) for generated in texts)
    return CompletionUsage(prompt_tokens=prompt_tokens, completion_tokens=new_tokens, total_tokens=prompt_tokens + new_tokens)


async def chunks(
    runtime: Runtime, generation: Generation, chunk: MakeChunk, choice: MakeChoice, *, n: int, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The frames of a stream. `choice` gets an index with the new text or with the finished one; with neither, it may open the choice."""
    finished: dict[int, Generated] = {}
    opened: set[int] = set()
    try:
        async with aclosing(generation.events()) as events:
            async for index, item in events:
                if index not in opened:
                    opened.add(index)
                    if (opening := choice(index, None, None)) is not None:
                        yield _frame(chunk(choices=[opening]))
                if isinstance(item, Generated):
                    finished[index] = item
                    last = {"countersign": ours(generation)} if len(finished) == len(generation.tickets) else {}
                    yield _frame(chunk(choices=[choice(index, None, item)], **last))
                elif item.text:
                    yield _frame(chunk(choices=[choice(index, item.text, None)]))
        if include_usage:
            yield _frame(chunk(choices=[], usage=usage([finished[index] for index in sorted(finished)], n)))
        yield format_sse_event(data_str="[DONE]")
    except Exception as error:
        problem = problem_of(error)
        runtime.metrics.refused(problem.code, problem.status_code)
        yield _frame(error_answer(problem))


def _frame(data: BaseModel) -> bytes:
    return format_sse_event(data_str=data.model_dump_json())
