"""The frozen language model, seen through the few doors that marking and verifying need.

Any decoder-only transformers model fits. The table below says under which names the architectures keep their list of
decoder layers and their final norm; everything else goes through the model's own `forward`.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from watermark.errors import BaseModelError
from watermark.half_precision import halved, pays_off

LAYER_LISTS = ("layers", "h", "blocks")
"""Where architectures keep their decoder layers: Llama/Gemma/Qwen/Mistral/Phi/NeoX, GPT-2/Bloom/Falcon, MPT."""
WRAPPERS = ("language_model", "decoder")
"""Where some keep the decoder one level down: multi-modal models, OPT."""
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")


@dataclass(frozen=True)
class Tokens:
    """A text as the model reads it. `offsets[i]` are the characters of token i; special tokens in front have none."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    prefix: int
    """Special tokens in front of the text (a begin-of-text token, usually 0 or 1)."""


class FrozenLM:
    """A causal language model and its tokenizer, frozen.

    `name` is what a person calls the model (a registry name, a path or an id). The model is never changed and nothing is
    ever stored on it between calls, so one instance serves any number of concurrent readers.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.name = name
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise BaseModelError(f"The tokenizer of {name!r} has no fast (tokenizers) version; offsets need one.")
        trainable = [n for n, p in model.named_parameters() if p.requires_grad]
        assert not trainable, trainable
        text_config = model.config.get_text_config()
        self.hidden_size: int = text_config.hidden_size
        self.layer_count: int = text_config.num_hidden_layers
        self.vocab_size: int = model.get_input_embeddings().weight.shape[0]
        self.context_size: int = getattr(text_config, "max_position_embeddings", 2048)
        self.model_type: str = model.config.model_type
        self._trunks: dict[int, nn.Module] = {}
        self._quick_trunks: dict[int, nn.Module] = {}

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a text."""
        declared = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ids = [*(declared if isinstance(declared, list) else [declared]), self.tokenizer.eos_token_id]
        return tuple(dict.fromkeys(i for i in ids if i is not None))

    @property
    def token_embeddings(self) -> Tensor:
        """The input embedding table, shape (vocab, hidden)."""
        return self.model.get_input_embeddings().weight

    def tokenize(self, text: str) -> Tokens:
        """Token ids with their characters. A special token spelled out in the text ("<eos>") is read as the characters it is made of:
        nobody who writes a text should be able to end it, or to pose as the model's own control tokens."""
        encoded = self.tokenizer(
            text, return_offsets_mapping=True, return_special_tokens_mask=True, split_special_tokens=True, verbose=False
        )
        mask = encoded["special_tokens_mask"]
        prefix = next((i for i, special in enumerate(mask) if not special), len(mask))
        stop = len(mask) if prefix == len(mask) else max(i for i, special in enumerate(mask) if not special) + 1
        offsets = [(int(a), int(b)) for a, b in encoded["offset_mapping"][:stop]]
        return Tokens(list(encoded["input_ids"][:stop]), offsets, prefix)

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def trunk(self, depth: int) -> nn.Module:
        """The embedding and the first `depth` decoder layers, sharing all weights with the model, without the final norm.

        Called like the base model, its `hidden_states` (depth + 1 of them) equal the first depth + 1 of the full model.
        A trunk cut by configuration alone would hand back its last state *after* the final norm; embedder and extractor
        must read the same thing, hence the identity in its place.
        """
        if depth not in self._trunks:
            base = self.model.base_model
            for wrapper in WRAPPERS:
                base = getattr(base, wrapper, base)
            layers_name = next((n for n in LAYER_LISTS if isinstance(getattr(base, n, None), nn.ModuleList)), None)
            norm_name = next((n for n in FINAL_NORMS if isinstance(getattr(base, n, None), nn.Module)), None)
            if layers_name is None or norm_name is None:
                raise BaseModelError(
                    f"Cannot find the decoder layers of {self.name!r} ({type(base).__name__}). Known names: layers "
                    f"{', '.join(LAYER_LISTS)}; final norm {', '.join(FINAL_NORMS)}. Add its names to watermark/base_model.py."
                )
            if not 0 < depth < self.layer_count:
                raise BaseModelError(f"Layer {depth} is not below the last layer of {self.name!r} ({self.layer_count} layers).")
            # transformers hooks the layers of a model the first time hidden states are asked of it, and marks the model as
            # hooked. That must happen before the copy: hooked by both, the shared layers would report every state twice.
            with torch.inference_mode():
                self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.device), output_hidden_states=True, use_cache=False)
            trunk = copy.copy(base)
            trunk._modules = dict(base._modules)
            trunk.config = copy.deepcopy(base.config)
            trunk.config.num_hidden_layers = depth
            setattr(trunk, layers_name, nn.ModuleList(list(getattr(base, layers_name))[:depth]))
            setattr(trunk, norm_name, nn.Identity())
            self._trunks[depth] = trunk
        return self._trunks[depth]

    def _quick_trunk(self, depth: int) -> nn.Module:
        if self.device.type != "cpu" or self.token_embeddings.dtype != torch.float32 or not pays_off():
            return self.trunk(depth)
        if depth not in self._quick_trunks:
            self._quick_trunks[depth] = halved(self.trunk(depth))
        return self._quick_trunks[depth]

    @torch.inference_mode()
    def trunk_states(self, ids: Tensor, mask: Tensor, layers: tuple[int, ...], *, quick: bool = False) -> Tensor:
        """Hidden states of right-padded `ids` (batch, time) at `layers`, stacked: (batch, time, len(layers), hidden).

        Layer 0 is the token embedding, layer l the state after l decoder layers. `quick` takes half-precision products where the CPU
        has them (`watermark.half_precision`).
        """
        trunk = self._quick_trunk(max(layers)) if quick else self.trunk(max(layers))
        output = trunk(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=list(layers))
        return torch.stack([output.hidden_states[layer] for layer in layers], dim=2)

    def tokenizer_digest(self) -> str:
        """SHA-256 over the vocabulary: two models with the same digest split text the same way."""
        vocabulary = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        return hashlib.sha256("\x00".join(f"{token}\x01{i}" for token, i in vocabulary).encode("utf-8", "surrogatepass")).hexdigest()
