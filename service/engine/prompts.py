"""Prompts to token ids: tokens are counted before a request may wait for the model."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer

from service.engine.protocol import ModelCard, PromptText
from watermark.errors import InvalidInput, PromptTooLong

PAD = "\u2003"
"""White space that no template writes: what is left of it around a stand-in tells whether the template trims contents."""


class PromptEncoder:
    """The model's tokenizer. What people write is never read as control tokens: "<eos>" in a prompt is five characters."""

    def __init__(self, card: ModelCard, tokenizer: Tokenizer) -> None:
        """`tokenizer` is this encoder's alone: its settings change from one call to the next."""
        self._card = card
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        for token in tokenizer.get_added_tokens_decoder().values():
            # Some models' turn markers are not declared special; what the template writes is control all the same, white space aside.
            if not token.special and token.content in (card.chat_template or "") and re.search(r"\w", token.content):
                tokenizer.add_special_tokens([AddedToken(token.content, normalized=False, special=True)])
        self._control_tokens = {place: token.content for place, token in tokenizer.get_added_tokens_decoder().items() if token.special}

    def encode(self, prompt: PromptText, max_new_tokens: int) -> tuple[int, ...]:
        """Raises InvalidInput (empty, and the model has no token to begin with; see also `encode_chat`) and PromptTooLong."""
        if not isinstance(prompt, str):
            return self.encode_chat(prompt, max_new_tokens)
        ids = (*self._card.prefix, *self._prose(prompt))
        return self._checked(ids or self._card.lead, max_new_tokens)

    def encode_chat(self, messages: Sequence[Mapping[str, str]], max_new_tokens: int) -> tuple[int, ...]:
        """Messages {role, content} through the model's chat template. Raises InvalidInput for what the template refuses, and PromptTooLong.

        The template runs with a stand-in for each content: only its own text may hold control tokens, the contents are read as prose.
        The model was trained on conversations that were encoded as one string, so that is done where it gives the same control tokens.
        """
        assert self._card.chat_template is not None, "the caller checks that the model has a chat template"
        parts = self._rendered(messages)
        apart = [token for place, part in enumerate(parts) for token in (self._prose(part) if place % 2 else self._ids(part, control=True))]
        whole = self._ids("".join(parts), control=True)
        same = [i for i in whole if i in self._control_tokens] == [i for i in apart if i in self._control_tokens]
        return self._checked(tuple(whole if same else apart), max_new_tokens)

    def _rendered(self, messages: Sequence[Mapping[str, str]]) -> list[str]:
        """The template's text, a content, the template's text, … in turn. Raises InvalidInput."""
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template  # transformers takes seconds to import

        contents = {f"content-{secrets.token_hex(8)}": message["content"] for message in messages}
        conversation = [{**m, "content": f"{PAD}{stand_in}{PAD}"} for m, stand_in in zip(messages, contents, strict=True)]
        special_tokens: dict[str, Any] = dict(self._card.special_tokens)
        try:
            rendered, _ = render_jinja_template(
                conversations=[conversation],
                chat_template=self._card.chat_template,
                add_generation_prompt=True,
                **special_tokens,
            )
        except TemplateError as error:
            raise InvalidInput(f"The model's chat template refuses these messages: {error}.") from None
        parts = re.split(f"({PAD}?(?:{'|'.join(contents)}){PAD}?)", rendered[0])
        if {part.strip(PAD) for part in parts[1::2]} != set(contents):
            raise InvalidInput("The model's chat template has no place for one of these messages.")
        for place in range(1, len(parts), 2):
            content = contents[parts[place].strip(PAD)]
            content = content if parts[place].startswith(PAD) else content.lstrip()
            parts[place] = content if parts[place].endswith(PAD) else content.rstrip()
        return parts

    def _prose(self, text: str) -> list[int]:
        """Raises InvalidInput where the vocabulary itself spells a control token, as unigram vocabularies can."""
        ids = self._ids(text, control=False)
        for token in self._control_tokens.keys() & set(ids):
            if self._control_tokens[token] in text:  # else it stands for something unknown
                raise InvalidInput(f"The text holds {self._control_tokens[token]!r}, which this model can only read as a control token.")
        return ids

    def _ids(self, text: str, *, control: bool) -> list[int]:
        """Without what stands in front of every text; `control`: what looks like a control token is one."""
        self._tokenizer.encode_special_tokens = not control
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _checked(self, ids: tuple[int, ...], max_new_tokens: int) -> tuple[int, ...]:
        if not ids:
            raise InvalidInput(f"The prompt is empty, and {self._card.model!r} has no token to begin a text with. Give a prompt.")
        room = self._card.context_size - max_new_tokens
        if len(ids) > room:
            raise PromptTooLong(
                f"The prompt has {len(ids):,} tokens; with max_new_tokens = {max_new_tokens:,} at most {max(room, 0):,} "
                f"fit the context of {self._card.context_size:,}. Shorten the prompt or ask for fewer tokens."
            )
        return ids
