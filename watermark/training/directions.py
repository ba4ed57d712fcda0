"""Where to begin: directions of the last hidden state in which a mark costs little and is read well.

A tilt of the logits along direction u costs half its variance over the model's candidates, Var_c(w_c·u) / 2 nats (second order), and is
read from the sum of w_y·u over a text's tokens, whose own variation from text to text is the noise. The best directions are the
generalised eigenvectors of the two covariances (as in linear discriminant analysis).
"""

from __future__ import annotations

import torch
from torch import Tensor

from watermark.inference.torch_lm import TorchLM
from watermark.training.features import Shard

SPAN = 64
"""Tokens of the pieces of text whose sums are compared."""
POSITIONS = 16
"""Every so many positions count for the covariance over candidates."""
RIDGE = 0.05
"""Of the mean variance, added to the noise, which is estimated from few pieces of text."""


@torch.no_grad()
def quiet_directions(lm: TorchLM, shards: list[Shard], count: int) -> Tensor:
    """The best `count` directions u, (hidden, count): of unit variance over candidates and uncorrelated there, best first."""
    cost = torch.zeros(lm.hidden_size, lm.hidden_size, device=lm.device)
    spans = []
    for shard in shards:
        rows = lm.embed(shard["candidates"][:, ::POSITIONS].long().to(lm.device)).float()  # (N, P, K, hidden)
        probs = shard["logits"][:, ::POSITIONS].float().softmax(dim=-1).to(lm.device).unsqueeze(-1)
        rows = ((rows - (probs * rows).sum(dim=-2, keepdim=True)) * probs.sqrt()).flatten(0, 2)
        cost += rows.T @ rows / probs[..., 0, 0].numel() / len(shards)
        text = lm.embed(shard["ids"][:, 1:].long().to(lm.device)).float()
        spans.append(text[:, : text.shape[1] // SPAN * SPAN].unflatten(1, (-1, SPAN)).sum(dim=2).flatten(0, 1))
    noise = torch.cat(spans).T.cov() / SPAN
    noise += RIDGE * noise.diagonal().mean() * torch.eye(len(noise), device=lm.device)
    # cost·u = λ·noise·u, by whitening the noise.
    root = torch.linalg.cholesky(noise.double())
    half = torch.linalg.solve_triangular(root, cost.double(), upper=False)
    values, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.T, upper=False))
    chosen = torch.linalg.solve_triangular(root.T, vectors.flip(1)[:, :count], upper=True)
    return (chosen / values.flip(0)[:count].clamp(min=1e-12).sqrt()).float()
