"""Features for the kinds that act inside the model: hidden states from which only the layers above need to run again.

A shard holds windows of a prompt and `window` target tokens: ids (N, P+T) · states (N, P+T-1, D), what the first layer that runs again
gets · candidates (N, T, K), the base model's likeliest next tokens, with logits (N, T, K), its log-probabilities up to a constant per
position.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from watermark.inference.likeliest import likeliest
from watermark.inference.torch_lm import TorchLM
from watermark.training.features import FeatureSpec, Shard

BATCH = 8
ROWS = 128
"""Rows of the whole vocabulary at a time: 134 MB for 262,144 tokens."""


@torch.inference_mode()
def upper_shard(lm: TorchLM, ids: np.ndarray, prompt: int, spec: FeatureSpec, rng: np.random.Generator) -> Shard:
    """See the head of this module; `spec.query_layers` names the one state that is kept."""
    (layer,) = spec.query_layers
    # Half precision only chooses the candidates among the vocabulary; their logits are computed anew.
    head = lm.model.get_output_embeddings().weight.to(torch.bfloat16)
    states, candidates, logits = [], [], []
    for rows in torch.from_numpy(ids).long().to(lm.device).split(BATCH):
        with torch.autocast(lm.device.type, dtype=torch.bfloat16):
            output = lm.model.base_model(input_ids=rows[:, :-1], use_cache=False, output_hidden_states=[layer])
        # bfloat16 has the range of float32, which the outliers of a residual stream need.
        states.append(output.hidden_states[layer].to(torch.bfloat16).cpu())
        last = output.last_hidden_state[:, prompt - 1 :]
        pieces = last.to(torch.bfloat16).flatten(0, 1).split(ROWS)
        tokens = torch.cat([likeliest(F.linear(piece, head), spec.candidates)[1] for piece in pieces]).view(*last.shape[:2], -1)
        candidates.append(tokens.int().cpu())
        logits.append(candidate_logits(lm, last.float(), tokens).log_softmax(dim=-1).half().cpu())
    return {
        "ids": torch.from_numpy(ids).int(),
        "states": torch.cat(states),
        "candidates": torch.cat(candidates),
        "logits": torch.cat(logits),
    }


def candidate_logits(lm: TorchLM, last: Tensor, candidates: Tensor) -> Tensor:
    """Last hidden states (B, T, hidden) → logits (B, T, K) of some tokens (B, T, K) alone."""
    head = lm.model.get_output_embeddings()
    logits = (F.embedding(candidates, head.weight) @ last.unsqueeze(-1)).squeeze(-1)
    bias = getattr(head, "bias", None)
    return logits if bias is None else logits + bias[candidates]
