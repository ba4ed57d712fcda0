"""The extractor of the residual kinds: a bidirectional transformer over the text's tokens, with a query for every sign.

Each sign's query weighs every token, and the evidence is the *sum* of what the tokens say, not their mean: so it stays a sum over tokens,
as everything that comes after it (windows, localisation, calibration) wants it. It reads nothing of the base model but its frozen table of
token embeddings.

A token that stands in the text for the k-th time counts 1/k. A mark that leans towards the same words everywhere makes a model repeat
itself, and a loop of one word says as little about the signs as the word does once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from watermark.config import ResidualConfig

ROTARY_BASE = 10_000.0
CLIP = 5.0


def rotate(values: Tensor) -> Tensor:
    """Rotary positions (Su et al., RoFormer, 2021) on (B, heads, T, width), counted from the first token."""
    length, width = values.shape[-2:]
    frequencies = ROTARY_BASE ** (-torch.arange(0, width, 2, device=values.device).float() / width)
    angles = torch.arange(length, device=values.device).float()[:, None] * frequencies
    cos, sin = angles.cos().to(values.dtype), angles.sin().to(values.dtype)
    even, odd = values[..., 0::2], values[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def shares(ids: Tensor, valid: Tensor) -> Tensor:
    """Token ids (B, T), valid (B, T) bool → (B, T): 1/k where a token stands for the k-th time in its row, 0 where not valid."""
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    # Sorted, with the order of the text among equals, a token's number among its like is its distance from the first of them.
    values, order = ids.masked_fill(~valid, -1).sort(dim=1, stable=True)
    first = torch.ones_like(valid)
    first[:, 1:] = values[:, 1:] != values[:, :-1]
    number = place - place.masked_fill(~first, 0).cummax(dim=1).values + 1
    return torch.zeros(ids.shape, device=ids.device).scatter(1, order, 1 / number) * valid


class TextLayer(nn.Module):
    """Pre-norm transformer layer in which every token sees every other of its text."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projections = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """values (B, T, width), valid (B, T) bool → (B, T, width)."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.projections(self.attention_norm(values)).chunk(3, dim=-1)
        )
        found = F.scaled_dot_product_attention(rotate(query), rotate(key), value, attn_mask=valid[:, None, None])
        values = values + self.out(found.transpose(1, 2).flatten(2))
        return values + self.feed_forward(self.feed_norm(values))


class TextExtractor(nn.Module):
    """Token embeddings (B, T, hidden) → evidence (B, T, n): e_i = Σ_t a_t · w_i(t) · κ_i(x_t − c_t).

    a_t are the `shares`. κ_i is linear in the token's embedding x_t: what the base model's head makes of a direction in its last state.
    c_t, the embedding to expect at that place of such a text, and w_i ≥ 0, the attention of sign i's query to token t, come from the
    transformer. Both are shared between the signs, all or most of them: what a single sign's own weights could learn is drowned by the
    text's own variation.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.n, width = config.n, config.reader_width
        self.register_buffer("mean", torch.zeros(config.hidden_size))
        self.register_buffer("deviation", torch.ones(config.hidden_size))
        self.readout = nn.Linear(config.hidden_size, config.n, bias=False)
        self.project = nn.Linear(config.hidden_size, width)
        self.layers = nn.ModuleList(TextLayer(width, config.reader_heads) for _ in range(config.reader_layers))
        self.norm = nn.LayerNorm(width)
        self.expected = nn.Linear(width, config.hidden_size)
        self.trust = nn.Linear(width, 1)
        self.keys = nn.Linear(width, width)
        self.queries = nn.Parameter(torch.randn(config.n, width))
        self.bias = nn.Parameter(torch.full((config.n,), 0.5413))  # softplus of it is 1
        # At first a matched filter: nothing expected, every token trusted alike.
        for layer in (self.expected, self.trust, self.keys):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def fit(self, embeddings: Tensor) -> None:
        """Set mean and deviation from the embeddings (N, hidden) of the tokens of a corpus."""
        self.mean.copy_(embeddings.float().mean(dim=0))
        self.deviation.copy_(embeddings.float().std(dim=0).clamp(min=1e-6))

    @torch.no_grad()
    def match(self, directions: Tensor) -> None:
        """Begin as the filter matched to an embedder that adds `directions` (n, hidden) to what the head reads."""
        codes = directions * self.deviation
        self.readout.weight.copy_(codes / codes.norm(dim=1, keepdim=True))

    def forward(self, embeddings: Tensor, share: Tensor) -> Tensor:
        """`share` (B, T) of each token, see `shares`; 0 for padding, which has no evidence."""
        valid = share > 0
        features = ((embeddings.float() - self.mean) / self.deviation).clamp(-CLIP, CLIP)
        values = self.project(F.layer_norm(features, features.shape[-1:]))
        for layer in self.layers:
            values = layer(values, valid)
        values = self.norm(values)
        weight = F.softplus(self.keys(values) @ self.queries.T * self.queries.shape[1] ** -0.5 + self.trust(values) + self.bias)
        return weight * self.readout(features - self.expected(values)) * share.unsqueeze(-1)
