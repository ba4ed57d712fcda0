"""From a request in OpenAI's form to the draft that the rest of the service checks and fulfils."""

from __future__ import annotations

from collections.abc import Sequence

from service.api.drafts import Draft, Prompt
from service.errors import Problem, refuse
from service.runtime import Runtime
from service.schemas.openai import DEFAULT_MAX_TOKENS, ChatCompletionRequest, CompletionRequest, Message
from watermark.sampling.requests import SamplingSettings


def completion_draft(runtime: Runtime, body: CompletionRequest) -> Draft:
    """Raises Problem, Unavailable."""
    listed = not isinstance(body.prompt, str)
    texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    prompts = [Prompt(f"/prompt/{place}" if listed else "/prompt", text) for place, text in enumerate(texts)]
    return _draft(runtime, body, prompts, listed, body.max_tokens, "/max_tokens")


def chat_draft(runtime: Runtime, body: ChatCompletionRequest) -> Draft:
    """Raises Problem, Unavailable."""
    _check_model(runtime, body.model)
    if runtime.require_model().chat_template is None:
        detail = f"The model {body.model!r} has no chat template: it continues texts. Send the text as `prompt` to /v1/completions."
        raise Problem(400, "no_chat_template", detail)
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise refuse("/max_tokens", "It is the older name of max_completion_tokens; send one of them.")
    conversation = [{"role": _role(message), "content": _content(message)} for message in body.messages]
    prompt = Prompt("/messages", conversation)
    field = "/max_tokens" if body.max_completion_tokens is None else "/max_completion_tokens"
    return _draft(runtime, body, [prompt], False, body.max_completion_tokens or body.max_tokens, field)


def _draft(
    runtime: Runtime,
    body: CompletionRequest | ChatCompletionRequest,
    prompts: Sequence[Prompt],
    listed: bool,
    max_tokens: int | None,
    max_tokens_pointer: str,
) -> Draft:
    """Each prompt `n` times in turn, so that text i belongs to prompt i // n, as in OpenAI's answers."""
    _check_model(runtime, body.model)
    if body.stream_options is not None and not body.stream:
        raise refuse("/stream_options", "Send it only with `stream`: true.")
    n, settings, ours = body.n or 1, runtime.settings, body.countersign
    if n > 1 and n * len(prompts) > settings.max_prompts:
        raise refuse("/n", f"This server writes at most {settings.max_prompts} texts for one request; {n * len(prompts)} were asked for.")
    if max_tokens is None:
        max_tokens = min(DEFAULT_MAX_TOKENS, settings.max_new_tokens)
    if ours.min_new_tokens > max_tokens:
        raise refuse("/countersign/min_new_tokens", f"It must be at most the tokens to write ({max_tokens}).")
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    sampling = SamplingSettings(
        max_new_tokens=max_tokens,
        min_new_tokens=ours.min_new_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_k=ours.top_k,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=tuple(stop),
    )
    return Draft(
        prompts=tuple(prompt for prompt in prompts for _ in range(n)),
        sampling=sampling,
        issuer=ours.issuer,
        payload=ours.payload,
        strength=ours.strength,
        receipt=ours.receipt,
        listed=listed or n > 1,
        issuer_pointer="/countersign/issuer",
        payload_pointer="/countersign/payload",
        max_new_tokens_pointer=max_tokens_pointer,
    )


def _check_model(runtime: Runtime, name: str) -> None:
    """Raises Problem, Unavailable."""
    served = runtime.require_model().model
    if name != served:
        raise unknown_model(name, served)


def unknown_model(name: str, served: str) -> Problem:
    detail = f"There is no model {name[:80]!r} here. The model served is {served!r}."
    return Problem(404, "model_not_found", detail, errors=[{"pointer": "/model", "detail": detail, "code": "model_not_found"}])


def _role(message: Message) -> str:
    # OpenAI's newer name for the same role; chat templates know the older one
    return "system" if message.role == "developer" else message.role


def _content(message: Message) -> str:
    return message.content if isinstance(message.content, str) else "".join(part.text for part in message.content)
