"""The checkpoint's embedder, for a model that vLLM runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from models.registry import checkpoint_folder
from watermark.base_model import TokenizedModel
from watermark.checkpoint import load_pair
from watermark.checkpoint_folder import read_config
from watermark.config import WatermarkConfig
from watermark.embedding.embedder import Embedder
from watermark.errors import CheckpointError

CHECKPOINT = "COUNTERSIGN_CHECKPOINT"
"""Variable with a shipped checkpoint's name or a folder. Unset: that of the default model."""


class VllmModel(TokenizedModel):
    """What a pair has to know of a model that is computed elsewhere."""

    backend = "vllm"

    def __init__(self, hf_config: Any, tokenizer: Any, name: str, device: torch.device) -> None:
        super().__init__(tokenizer, name)
        text = hf_config.get_text_config()
        self.hidden_size, self.layer_count, self.vocab_size = text.hidden_size, text.num_hidden_layers, text.vocab_size
        self.context_size, self.model_type = text.max_position_embeddings, hf_config.model_type
        self.end_ids = ()  # vLLM ends texts
        self._device = device

    @property
    def device(self) -> torch.device:
        return self._device


def checkpoint() -> tuple[Path, WatermarkConfig]:
    """Raises CheckpointError."""
    folder = checkpoint_folder(None, os.environ.get(CHECKPOINT))
    config = read_config(folder)
    if not isinstance(config, WatermarkConfig):
        raise CheckpointError(
            f"Checkpoint {folder.name} is of kind {config.kind}, which acts inside the model. With vLLM only tournament runs."
        )
    return folder, config


def load_embedder(model: TokenizedModel) -> tuple[Embedder, WatermarkConfig]:
    """Raises CheckpointError: the checkpoint is damaged, or was trained for a model of another architecture or tokenizer."""
    folder, config = checkpoint()
    embedder = load_pair(folder, model).embedder
    assert isinstance(embedder, Embedder)
    return embedder, config
