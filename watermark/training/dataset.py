"""Batches for the objective, drawn from cached feature shards. A step's batch depends on (seed, step) alone, so a resumed run
sees what the uninterrupted one would have seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from watermark.errors import InvalidInput
from watermark.training.channel import FOREIGN
from watermark.training.features import Shard, load_shard
from watermark.training.objective import Batch

SHORTEST = 40
"""Target tokens of the shortest training text."""


class FeatureSet:
    """All shards, in memory and in half precision: about 3 MB a document for three layers of width 640."""

    def __init__(self, paths: list[Path]) -> None:
        """Raises InvalidInput for fewer than three shards: the first and the last are held out."""
        if len(paths) < 3:
            raise InvalidInput(f"Training needs at least three shards of features, two of them to be held out; there are {len(paths)}.")
        shards = [load_shard(path) for path in paths]
        # The first is human text, and the last, if there is any such, text that the model wrote.
        self.held_out, self.training = [shards[0], shards[-1]], shards[1:-1]
        self.window = shards[0]["states"].shape[1]

    def sample_states(self, stride: int = 8) -> Tensor:
        """A sample (N, layers, hidden) to fit the state normaliser on."""
        return torch.cat([shard["states"][:, ::stride].flatten(0, 1) for shard in self.training]).float()

    def batch(self, rng: np.random.Generator, texts: int, candidates: int, device: torch.device) -> Batch:
        """`texts` texts from one shard, cut to a common random length, with the prompt-less version and one edited version."""
        shard = self.training[rng.integers(len(self.training))]
        rows = torch.from_numpy(rng.choice(len(shard["ids"]), min(texts, len(shard["ids"])), replace=False))
        length = int(rng.integers(min(SHORTEST, self.window), self.window + 1))
        versions = [0, int(rng.integers(1, shard["origin"].shape[1]))]
        return make_batch(shard, rows, versions, length, candidates, device)

    def validation(self, texts: int, candidates: int, device: torch.device) -> list[Batch]:
        """The held-out texts at full length, all versions, in batches of `texts`."""
        return [
            make_batch(shard, rows, list(range(shard["origin"].shape[1])), self.window, candidates, device)
            for shard in self.held_out
            for rows in torch.arange(len(shard["ids"])).split(texts)
        ]


def make_batch(shard: Shard, rows: Tensor, versions: list[int], length: int, candidates: int, device: torch.device) -> Batch:
    """Cut `rows` of a shard to `length` target tokens and the `candidates` likeliest candidates."""
    probs = shard["probs"][rows, :length, :candidates].float()
    origin = shard["origin"][rows][:, versions]
    edited = shard["edited_ids"][rows][:, versions]
    # Beyond the cut nothing was written by us; those positions end the text.
    beyond = (origin >= length).cummax(dim=-1).values if length < shard["states"].shape[1] else torch.zeros_like(origin, dtype=torch.bool)
    edited = torch.where(beyond, -1, edited)
    longest = int((edited >= 0).sum(dim=-1).max())
    return Batch(
        states=shard["states"][rows, :length].float().to(device),
        ids=shard["ids"][rows, -shard["states"].shape[1] :][:, :length].long().to(device),
        candidates=shard["candidates"][rows, :length, :candidates].long().to(device),
        probs=(probs / probs.sum(dim=-1, keepdim=True)).to(device),
        edited_states=shard["edited_states"][rows][:, versions, :longest].float().to(device),
        edited_ids=edited[..., :longest].to(device),
        origin=torch.where(beyond, FOREIGN, origin)[..., :longest].to(device),
    )
