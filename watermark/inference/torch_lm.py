"""The frozen model as transformers and torch run it: the reference, what training reads, and the way onto GPUs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from watermark.base_model import FrozenLM
from watermark.errors import BaseModelError
from watermark.inference.steering import LayerHooks
from watermark.inference.torch_running import TorchRunning

LAYER_LISTS = ("layers", "h", "blocks")
"""Where architectures keep their decoder layers: Llama/Gemma/Qwen/Mistral/Phi/NeoX, GPT-2/Bloom/Falcon, MPT."""
WRAPPERS = ("language_model", "decoder")
"""Where some keep the decoder one level down: multi-modal models, OPT."""
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")
ATTENTIONS = ("self_attn", "attn", "attention", "self_attention")
"""Self-attention in a decoder layer: Llama/Gemma/Qwen/Mistral/Phi/OPT, GPT-2/MPT, NeoX, Bloom/Falcon."""
BEHIND = ("post_feedforward_layernorm", "post_attention_layernorm")
"""A layer that has the first norms what it adds to the stream, and what attention adds by the second: Gemma 2/3, OLMo 2. Elsewhere
the second, if there is one, stands before the feed-forward network."""

_HOOKING = threading.Lock()


class TorchLM(FrozenLM):
    """Any decoder-only transformers model fits. The tables above say under which names the architectures keep their list of decoder layers
    and their final norm; everything else goes through the model's own `forward`."""

    backend = "torch"

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        super().__init__(tokenizer, name)
        self.model = model.eval().requires_grad_(False)
        trainable = [n for n, p in model.named_parameters() if p.requires_grad]
        assert not trainable, trainable
        text_config = model.config.get_text_config()
        self.hidden_size = text_config.hidden_size
        self.layer_count = text_config.num_hidden_layers
        self.vocab_size = model.get_input_embeddings().weight.shape[0]
        self.context_size = getattr(text_config, "max_position_embeddings", 2048)
        self.model_type = model.config.model_type
        declared = model.generation_config.eos_token_id if model.generation_config else None
        ids = [*(declared if isinstance(declared, list) else [declared]), tokenizer.eos_token_id]
        self.end_ids = tuple(dict.fromkeys(i for i in ids if i is not None))
        self._trunks: dict[int, nn.Module] = {}
        self._uppers: dict[int, nn.Module] = {}
        self._hooked = False
        self.recordable = True
        """Until a step could not be recorded as a CUDA graph."""

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    def to(self, device: str) -> None:
        """In float32 on the CPU, in bfloat16 elsewhere."""
        try:
            self.recordable = True
            self.model.to(device, dtype=torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16)
        except (RuntimeError, AssertionError) as error:  # torch says "not compiled with CUDA" by an AssertionError
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BaseModelError(f"Base model {self.name!r} cannot be moved to device {device!r}: {reason}") from error

    def release(self) -> None:
        """There is none."""

    @property
    def token_embeddings(self) -> Tensor:
        """The input embedding table, shape (vocab, hidden)."""
        return self.model.get_input_embeddings().weight

    def embed(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.token_embeddings)

    def compiled(self, network: nn.Module, example: Tensor) -> nn.Module:
        return network

    def running(self, layers: tuple[int, ...], network: nn.Module | None = None) -> TorchRunning:
        return TorchRunning(self, layers, network)

    def next_token(
        self, ids: Tensor, mask: Any, positions: Tensor, cache: Any, layers: tuple[int, ...], network: nn.Module | None
    ) -> tuple[Tensor, Tensor | None]:
        """The latest token (B,) of every text, at its position (B,), behind what `cache` holds → logits (B, vocabulary) in float32, and
        what `network`, if there is one, makes of the states (B, layers, hidden). `mask` is any that transformers takes."""
        output = self.model(
            input_ids=ids.unsqueeze(1),
            attention_mask=mask,
            position_ids=positions.unsqueeze(1),
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=list(layers) if network else False,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].float()
        if network is None:
            return logits, None
        return logits, network(torch.stack([output.hidden_states[layer][:, -1] for layer in layers], dim=1))

    def trunk(self, depth: int) -> nn.Module:
        """The embedding and the first `depth` decoder layers, sharing all weights with the model, without the final norm.

        Called like the base model, its `hidden_states` (depth + 1 of them) equal the first depth + 1 of the full model.
        A trunk cut by configuration alone would hand back its last state *after* the final norm; embedder and extractor
        must read the same thing, hence the identity in its place.
        """
        if depth not in self._trunks:
            if not 0 < depth < self.layer_count:
                raise BaseModelError(f"Layer {depth} is not below the last layer of {self.name!r} ({self.layer_count} layers).")
            trunk, _, norm = self._part(slice(0, depth))
            setattr(trunk, norm, nn.Identity())
            self._trunks[depth] = trunk
        return self._trunks[depth]

    def upper(self, first: int) -> nn.Module:
        """Decoder layers `first` + 1 … and the final norm, sharing all weights with the model.

        Called like the base model, with the token ids for their number alone, inside `steering.resumed(hidden_states[first])`: it goes on
        from these states, and its last hidden state equals that of the full model.
        """
        if first not in self._uppers:
            if not 0 <= first < self.layer_count:
                raise BaseModelError(f"{self.name!r} has {self.layer_count} layers; there is none after {first}.")
            self.make_steerable()
            self._uppers[first] = self._part(slice(first, None))[0]
        return self._uppers[first]

    def decoder(self) -> tuple[Any, str, str]:
        """The module that holds the decoder layers, and the names of their list and of the final norm in it. Raises BaseModelError."""
        base = self.model.base_model
        for wrapper in WRAPPERS:
            base = getattr(base, wrapper, base)
        layers = next((n for n in LAYER_LISTS if isinstance(getattr(base, n, None), nn.ModuleList)), None)
        norm = next((n for n in FINAL_NORMS if isinstance(getattr(base, n, None), nn.Module)), None)
        if layers is None or norm is None:
            raise BaseModelError(
                f"Cannot find the decoder layers of {self.name!r} ({type(base).__name__}). Known names: layers "
                f"{', '.join(LAYER_LISTS)}; final norm {', '.join(FINAL_NORMS)}. Add its names to watermark/inference/torch_lm.py."
            )
        return base, layers, norm

    def _part(self, which: slice) -> tuple[nn.Module, str, str]:
        """A copy of the decoder with some of its layers, and the names of its list of layers and of its final norm."""
        base, layers, norm = self.decoder()
        # transformers hooks the layers of a model the first time hidden states are asked of it, and marks the model as
        # hooked. That must happen before the copy: hooked by both, the shared layers would report every state twice.
        with torch.inference_mode():
            self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.device), output_hidden_states=True, use_cache=False)
        part: Any = copy.copy(base)
        part._modules = dict(base._modules)
        part.config = copy.deepcopy(base.config)
        chosen = list(getattr(base, layers))[which]
        part.config.num_hidden_layers = len(chosen)
        if getattr(base.config, "layer_types", None):
            part.config.layer_types = base.config.layer_types[which]
        setattr(part, layers, nn.ModuleList(chosen))
        return part, layers, norm

    def make_steerable(self) -> None:
        """Put the hooks of `steering` on the decoder layers, once; by themselves they do nothing. Raises BaseModelError."""
        with _HOOKING:
            if self._hooked:
                return
            base, layers, _ = self.decoder()
            for number, layer in enumerate(getattr(base, layers), 1):
                attention = next((m for n in ATTENTIONS if isinstance(m := getattr(layer, n, None), nn.Module)), None)
                end = getattr(layer, BEHIND[1], attention) if hasattr(layer, BEHIND[0]) else attention
                LayerHooks(number).install(layer, attention, end)
            self._hooked = True

    @torch.inference_mode()
    def trunk_states(self, ids: Tensor, mask: Tensor, layers: tuple[int, ...]) -> Tensor:
        """Hidden states of right-padded `ids` (batch, time) at `layers`, stacked: (batch, time, len(layers), hidden)."""
        output = self.trunk(max(layers))(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=list(layers))
        return torch.stack([output.hidden_states[layer] for layer in layers], dim=2)

    def read_states(self, sequences: Sequence[Sequence[int]], layers: tuple[int, ...]) -> Tensor:
        longest = max(map(len, sequences))
        ids = torch.zeros(len(sequences), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        return self.trunk_states(ids, mask, layers)[mask.bool()].float()
