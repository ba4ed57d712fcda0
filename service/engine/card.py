"""What the API learns of a loaded model."""

from __future__ import annotations

from service.engine.protocol import ModelCard
from watermark.extraction.reading import leading_token
from watermark.pipeline import WatermarkedModel


def card_of(model: WatermarkedModel) -> ModelCard:
    tokenizer = model.lm.tokenizer
    sample = model.lm.tokenize("a")
    specials = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    return ModelCard(
        model=model.lm.name,
        checkpoint=model.name,
        scheme=f"countersign/{model.config.kind}/{model.config.format_version}",
        context_size=model.lm.context_size,
        prefix=tuple(sample.ids[: sample.prefix]),
        lead=tuple(leading_token(model.lm)),
        chat_template=tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
        special_tokens=tuple(specials.items()),
    )
