"""vLLM's models, that hand on their hidden states. Nothing of a request is ever stored on them."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from vllm.config import CompilationMode, VllmConfig
from vllm.model_executor.models.gemma3 import Gemma3ForCausalLM
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.mistral import MistralForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

from countersign_vllm import handover
from countersign_vllm.loading import checkpoint


class Markable(nn.Module):
    """Stands before one of vLLM's model classes. Its states are wider than the model's by those of the query layers: vLLM picks the rows
    that get a token, and with them what belongs to them, in whatever order they are."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        if vllm_config.compilation_config.mode != CompilationMode.NONE:
            raise ValueError("Countersign reads hidden states inside the model, which a compiled one does not show: use --enforce-eager.")
        if vllm_config.parallel_config.pipeline_parallel_size > 1:
            raise ValueError("Countersign reads hidden states of several layers, which pipeline stages keep apart: use one stage.")
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        self._query_layers = checkpoint()[1].query_layers
        self._hidden_size = vllm_config.model_config.get_hidden_size()

    def forward(self, input_ids: Tensor | None, positions: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        streams: list[Tensor] = []
        layers = self.model.layers  # type: ignore[attr-defined]
        hooks = [layers[layer].register_forward_pre_hook(partial(_keep, streams), with_kwargs=True) for layer in self._query_layers]
        try:
            hidden = super().forward(input_ids, positions, *args, **kwargs)  # type: ignore[misc]
        finally:
            for hook in hooks:
                hook.remove()
        return handover.pack(hidden, streams, positions)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Of the rows that vLLM picked, as `forward` returned them. (By this name of its argument vLLM knows a model that writes.)"""
        hidden, step = handover.unpack(hidden_states, self._hidden_size)
        handover.give(step)
        return super().compute_logits(hidden.contiguous())  # type: ignore[misc]


def _keep(streams: list[Tensor], _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The stream that enters a decoder layer: vLLM's layers add what the one before them has computed themselves."""
    names = ("positions", "hidden_states", "residual")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    hidden, residual = given["hidden_states"], given["residual"]
    streams.append(hidden.clone() if residual is None else hidden + residual)


class MarkableGemma3(Markable, Gemma3ForCausalLM):
    pass


class MarkableLlama(Markable, LlamaForCausalLM):
    pass


class MarkableMistral(Markable, MistralForCausalLM):
    pass


class MarkableQwen2(Markable, Qwen2ForCausalLM):
    pass


class MarkableQwen3(Markable, Qwen3ForCausalLM):
    pass
