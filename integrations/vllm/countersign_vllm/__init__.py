"""Countersign for vLLM: requests that name an issuer get marked text, others what vLLM would have written.

The model hands on the hidden states that marks are made of (`model`), a logits processor draws the next token of every marked text
(`processor`, `marks`); who marks, and with which message, comes with each request (`orders`).
"""

from __future__ import annotations

import os

MODELS = {
    "Gemma3ForCausalLM": "MarkableGemma3",
    "LlamaForCausalLM": "MarkableLlama",
    "MistralForCausalLM": "MarkableMistral",
    "Qwen2ForCausalLM": "MarkableQwen2",
    "Qwen3ForCausalLM": "MarkableQwen3",
}
"""Architectures, by the name in a model's config.json, and the class that stands in for vLLM's own."""


def register() -> None:
    """What vLLM calls in each of its processes."""
    from vllm import ModelRegistry  # pyright: ignore[reportAttributeAccessIssue]

    from countersign_vllm.orders import known_keys

    known_keys()  # a damaged key ring is seen at once
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # logits processors of the other runner have another interface
    for architecture, name in MODELS.items():
        ModelRegistry.register_model(architecture, f"countersign_vllm.model:{name}")
