"""Texts for `benchmarks.secret_safety`: written with any signs, kept in a work folder, and read as an attacker reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.attacker import Floats, coherence
from watermark.embedding.conditioning import Conditioning
from watermark.embedding.embedder import Embedder
from watermark.embedding.repeats import ContextMemory
from watermark.evaluation.generation import WorkFolder, text_seed
from watermark.evaluation.records import Prompt
from watermark.pair import WatermarkPair
from watermark.pipeline import WatermarkedModel
from watermark.sampling.decode import AnyEmbedder, Row, decode
from watermark.sampling.requests import SamplingSettings

QUARTERS = 4
"""Parts of a text whose evidence is kept apart."""
READ_BATCH = 32
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Written:
    """One text and the signs it was written with, if any."""

    collection: str
    number: int
    """Of the prompt and the random numbers; every text of a run has its own."""
    nonce: int
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """What an attacker reads in some texts, in their order."""

    quarters: NDArray[np.float32]
    """(m, QUARTERS, n) evidence, with the checkpoint."""
    coherence: Floats
    """(m,) see `attacker.coherence`."""
    codes: NDArray[np.float32]
    """(m, n) sum of the codes of the distinct tokens: all there is to read without the weights."""

    def evidence(self, knowledge: str) -> Floats:
        """(m, n) float64 with `knowledge` "checkpoint" or "codes"."""
        return (self.codes if knowledge == "codes" else self.quarters.sum(axis=1)).astype(np.float64)


class EagerEmbedder(Embedder):
    """The embedder of somebody who does not mind distortion: the ratio by which a candidate gains is raised to the power `push`."""

    def __init__(self, model: WatermarkedModel, push: float) -> None:
        pair = model.pair
        assert isinstance(pair, WatermarkPair)
        super().__init__(pair.config, pair.normaliser, pair.attention, pair.codes)
        self.log_gain, self.push = pair.embedder.log_gain, push

    def forward(
        self, attention: Tensor, candidates: Tensor, probs: Tensor, conditioning: Conditioning, memory: ContextMemory
    ) -> tuple[Tensor, Tensor]:
        reweighted, marked = super().forward(attention, candidates, probs, conditioning, memory)
        pushed = probs * (reweighted / probs.clamp(min=1e-30)) ** self.push
        return pushed / pushed.sum(dim=-1, keepdim=True), marked


class CodesEmbedder(EagerEmbedder):
    """Without the weights: each candidate gains by how its code agrees with the estimated signs, whatever the context."""

    def forward(
        self, attention: Tensor, candidates: Tensor, probs: Tensor, conditioning: Conditioning, memory: ContextMemory
    ) -> tuple[Tensor, Tensor]:
        signs = torch.nn.functional.normalize(conditioning.signs, dim=-1)
        agreement = torch.einsum("bkn,bn->bk", self.codes(candidates), signs)  # mean 0 and deviation 1 over tokens
        pushed = probs * torch.exp(self.push * agreement)
        return pushed / pushed.sum(dim=-1, keepdim=True), conditioning.strength > 0


@dataclass(frozen=True)
class Writer:
    model: WatermarkedModel
    prompts: Sequence[Prompt]
    work: WorkFolder
    seed: int
    tokens: int
    batch: int
    progress: Progress

    def write(
        self, collection: str, numbers: Sequence[int], signs: Callable[[int], tuple[int, Floats | None]], embedder: Embedder | None = None
    ) -> list[Written]:
        """A text for each number, those of an earlier run included; `signs(number)` gives its nonce and its signs (n,), None for no mark.

        Every finished batch is kept at once in `texts.jsonl`.
        """
        kept = [r for r in self.work.read("texts.jsonl") if r["collection"] == collection]
        done = {r["number"]: Written(**{**r, "ids": tuple(r["ids"])}) for r in kept}
        missing = [number for number in numbers if number not in done]
        for first in range(0, len(missing), self.batch):
            self.progress(f"writing {collection}", len(numbers) - len(missing) + first, len(numbers))
            batch = missing[first : first + self.batch]
            chosen = [signs(number) for number in batch]
            ids = self._decode(batch, [row for _, row in chosen], embedder or self.model.pair.embedder)
            texts = [
                Written(collection, number, nonce, self.model.lm.decode(row), tuple(row))
                for number, (nonce, _), row in zip(batch, chosen, ids, strict=True)
            ]
            self.work.append("texts.jsonl", map(asdict, texts))
            done.update((text.number, text) for text in texts)
        self.progress(f"writing {collection}", len(numbers), len(numbers))
        return [done[number] for number in numbers]

    def prompt_ids(self, number: int) -> list[int]:
        return self.model.lm.tokenize(self.prompts[number % len(self.prompts)].text).ids

    def _decode(self, numbers: Sequence[int], signs: Sequence[Floats | None], embedder: AnyEmbedder) -> list[list[int]]:
        sampling = SamplingSettings(max_new_tokens=self.tokens, min_new_tokens=self.tokens, seed=None)
        draws = [np.random.default_rng(text_seed(self.seed, number)).random(self.tokens) for number in numbers]
        rows = [
            Row(self.prompt_ids(number), sampling, torch.from_numpy(u), None if row is None else torch.from_numpy(row.astype(np.float32)))
            for number, u, row in zip(numbers, draws, signs, strict=True)
        ]
        return [row.ids for row in decode(self.model.lm, embedder, rows, self.model.config.query_layers)]


def read(model: WatermarkedModel, texts: Sequence[str], work: WorkFolder, name: str, progress: Progress) -> Reading:
    """What is to be read in `texts`; kept in the work folder as `name`."""
    path = work.folder / f"{name}.npz"
    if path.exists():
        with np.load(path) as found:
            if len(found["coherence"]) == len(texts):
                return Reading(found["quarters"], found["coherence"], found["codes"])
    quarters, agreement = [], []
    for first in range(0, len(texts), READ_BATCH):
        progress(f"reading {name}", first, len(texts))
        for evidence in model.evidence(texts[first : first + READ_BATCH]):
            per_token = evidence.per_token.astype(np.float64)
            quarters.append([part.sum(axis=0) for part in np.array_split(per_token, QUARTERS)])
            agreement.append(coherence(per_token))
    result = Reading(np.array(quarters, dtype=np.float32), np.array(agreement), _codes(model, texts))
    np.savez(path, **_arrays(result))
    return result


def _arrays(reading: Reading) -> dict[str, Any]:
    return {"quarters": reading.quarters, "coherence": reading.coherence, "codes": reading.codes}


@torch.inference_mode()
def _codes(model: WatermarkedModel, texts: Sequence[str]) -> NDArray[np.float32]:
    assert isinstance(model.pair, WatermarkPair)
    rows = []
    for text in texts:
        tokens = model.lm.tokenize(text)
        distinct = torch.tensor(sorted(set(tokens.ids[tokens.prefix :])), device=model.lm.device)
        rows.append(model.pair.codes(distinct).sum(dim=0).cpu().numpy())
    return np.stack(rows)
