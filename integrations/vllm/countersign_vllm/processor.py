"""The logits processor: vLLM's side of `marks`."""

from __future__ import annotations

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.tokenizers import get_tokenizer
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from countersign_vllm import handover
from countersign_vllm.loading import VllmModel, load_embedder
from countersign_vllm.marks import Marks
from countersign_vllm.orders import Order, read_order
from watermark.errors import CountersignError


class CountersignProcessor(LogitsProcessor):
    """vLLM makes one for an engine. Requests that ask for no mark pass it untouched."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        if vllm_config.use_v2_model_runner:
            raise ValueError("Countersign is a logits processor of vLLM's first model runner: set VLLM_USE_V2_MODEL_RUNNER=0.")
        if vllm_config.scheduler_config.async_scheduling:
            raise ValueError("Countersign draws each token after the one before it is known: use --no-async-scheduling.")
        model = vllm_config.model_config
        known = VllmModel(model.hf_config, get_tokenizer(model.tokenizer), model.model, device)
        embedder, self._config = load_embedder(known)
        self._marks = Marks(embedder, self._config)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Where a request comes in. Raises ValueError, which vLLM answers with status 400."""
        try:
            order_of(sampling_params)
        except CountersignError as error:
            raise ValueError(str(error)) from None

    def is_argmax_invariant(self) -> bool:
        """True makes vLLM call `apply` after the temperature, and not for greedy texts, which are never marked."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for place in batch_update.removed:
            self._marks.leave(place)
        for place, params, prompt_ids, _ in batch_update.added:
            self._marks.leave(place)
            if order := order_of(params):
                self._marks.join(place, _Name(params), order, len(prompt_ids or ()))
        for source, target, how in batch_update.moved:
            self._marks.move(source, target, swap=how is MoveDirectionality.SWAP)

    def apply(self, logits: Tensor) -> Tensor:
        return self._marks.draw(logits, handover.take(len(logits))) if len(self._marks) else logits


class _Name:
    """A request, known by its own parameters, which vLLM keeps as long as the request is there."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params  # kept, so that no other object can have its id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Name) and self._params is other._params

    def __hash__(self) -> int:
        return id(self._params)


def order_of(params: SamplingParams) -> Order | None:
    """Raises CountersignError."""
    sampling = {name: getattr(params, name) for name in ("temperature", "top_k", "top_p", "seed")}
    return read_order(params.extra_args, {**sampling, "max_tokens": params.max_tokens or 1})
