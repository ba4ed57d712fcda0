"""The fake model's tokenizer with a turn marker, and a chat template in the manner of Gemma's."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer

from service.engine.protocol import ModelCard
from tests.fakes import fake_tokenizer
from tests.service.fake_engine import FakeEngine, fake_card

TEMPLATE = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}\
{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}\
{% for message in rest %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}\
<start>{{ message['role'] }}\n{{ first if loop.first else '' }}{{ message['content'] | trim }}<eos>\n\
{% endfor %}{% if add_generation_prompt %}<start>assistant\n{% endif %}"""
"""As Gemma's: the system message goes into the first turn, contents are trimmed, roles alternate."""


def tokenizer_with_start(special: bool = True) -> Tokenizer:
    tokenizer = fake_tokenizer().backend_tokenizer
    tokenizer.add_tokens([AddedToken("<start>", special=special, normalized=False)])
    return tokenizer


def chat_card(template: str = TEMPLATE) -> ModelCard:
    return fake_card(chat_template=template)


def chat_engine() -> FakeEngine:
    return FakeEngine(chat_card(), tokenizer_with_start())


def read(ids: tuple[int, ...]) -> str:
    """Token ids as text, control tokens included."""
    return tokenizer_with_start().decode(list(ids), skip_special_tokens=False)
