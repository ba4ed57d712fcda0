"""Frozen features of a corpus, computed once: a training step then touches no language model at all.

Per document a window is cut: a prompt and `window` target tokens, which for a part of the documents the model replaces by its
own continuation: that is the text that will be marked, and exactly so, since over random codewords marked text is distributed
like unmarked text. Cached are the hidden states that predict each target
token, the model's top-k candidates there, and the same for several edited, prompt-less versions re-run through the trunk.
Features live in shards on disk; an interrupted run goes on after the last whole shard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from watermark.base_model import FrozenLM
from watermark.errors import InvalidInput
from watermark.extraction.reading import leading_token
from watermark.inference.torch_lm import TorchLM
from watermark.sampling.decode import Row, decode
from watermark.sampling.requests import SamplingSettings
from watermark.training.channel import FOREIGN, Edited, apply_edits, draw_edits
from watermark.training.corpus import shuffled_documents
from watermark.training.processes import ALONE, Processes


@dataclass(frozen=True)
class FeatureSpec:
    """What to compute. Two runs with the same spec, model and corpus give the same features."""

    documents: int = 512
    """Documents whose targets are their own, human text."""
    sampled: int = 0
    """Further documents that only give the prompt; the model writes the targets (temperature 1, top-k 64)."""
    window: int = 128
    """Target tokens per document."""
    prompt: tuple[int, int] = (8, 64)
    """Shortest and longest prompt in tokens."""
    candidates: int = 64
    versions: int = 4
    """Edited versions per document."""
    query_layers: tuple[int, ...] = (0, 1, 3)
    shard: int = 32
    seed: int = 0


Shard = dict[str, Tensor]
"""states (N, T, L, D) · candidates, probs (N, T, K) · edited_ids, origin (N, V, T′) · edited_states (N, V, T′, L, D) · ids (N, P+T)."""


def _pack(states: Tensor) -> Tensor:
    """To half precision on the CPU. Residual streams have outlier dimensions beyond its range; the normaliser clips them anyway."""
    return states.clamp(-65504, 65504).half().cpu()


def _shards(spec: FeatureSpec) -> int:
    return -(-spec.documents // spec.shard) + -(-spec.sampled // spec.shard)


def _continue(lm: FrozenLM, ids: np.ndarray, prompt: int, seed: tuple[int, ...]) -> np.ndarray:
    """The windows (N, prompt + window) with the targets written by the model."""
    length = ids.shape[1] - prompt
    sampling = SamplingSettings(temperature=1.0, top_k=64, max_new_tokens=length, min_new_tokens=length)
    uniforms = torch.from_numpy(np.random.default_rng(seed).random((len(ids), length)))
    rows = [Row(row[:prompt].tolist(), sampling, u) for row, u in zip(ids, uniforms, strict=True)]
    written = decode(lm, None, rows, (1,))
    return np.concatenate([ids[:, :prompt], np.asarray([d.ids for d in written])], axis=1)


def windows(lm: FrozenLM, corpus: Path, spec: FeatureSpec, rng: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """(prompt length, ids (shard, prompt + window)) batches; begin-of-text included in the prompt."""
    documents = shuffled_documents(corpus, rng)
    for _ in range(_shards(spec)):
        prompt = int(rng.integers(spec.prompt[0], spec.prompt[1] + 1))
        rows: list[list[int]] = []
        while len(rows) < spec.shard:
            text = next(documents, None)
            if text is None:
                raise InvalidInput(f"The corpus at {corpus} has too few long documents for {spec.documents + spec.sampled} windows.")
            tokens = lm.tokenize(text)
            body, needed = tokens.ids[tokens.prefix :], prompt + spec.window
            if len(body) < needed:
                continue
            start = int(rng.integers(0, len(body) - needed + 1))
            rows.append(tokens.ids[: tokens.prefix] + body[start : start + needed])
        yield len(rows[0]) - spec.window, np.asarray(rows)


@torch.inference_mode()
def _original(lm: TorchLM, ids: Tensor, prompt: int, spec: FeatureSpec) -> Shard:
    """States and candidates at every target position, with the prompt in view."""
    batch = 8
    states, candidates, probs = [], [], []
    for rows in ids.to(lm.device).split(batch):
        output = lm.model.base_model(input_ids=rows, use_cache=False, output_hidden_states=list(spec.query_layers))
        states.append(_pack(torch.stack([output.hidden_states[layer][:, prompt - 1 : -1] for layer in spec.query_layers], dim=2)))
        head = lm.model.get_output_embeddings()
        last = output.last_hidden_state[:, prompt - 1 : -1]
        top_values, top_ids = [], []
        for piece in last.flatten(0, 1).split(128):  # 128 rows of a 262,144-token vocabulary are 134 MB
            values, indices = head(piece).float().topk(spec.candidates, dim=-1)
            top_values.append(values)
            top_ids.append(indices)
        shape = (*last.shape[:2], spec.candidates)
        probs.append(torch.cat(top_values).softmax(-1).view(shape).half().cpu())
        candidates.append(torch.cat(top_ids).int().view(shape).cpu())
    return {"ids": ids.int(), "states": torch.cat(states), "candidates": torch.cat(candidates), "probs": torch.cat(probs)}


def _edited(lm: TorchLM, ids: np.ndarray, prompt: int, prefix: list[int], spec: FeatureSpec, rng: np.random.Generator) -> Shard:
    """Edited versions of the targets, re-run through the trunk without the prompt."""
    longest = spec.window + spec.window // 3
    pool = ids[:, prompt:].reshape(-1)
    versions: list[Edited] = []
    for row in ids[:, prompt:]:
        # The first version is only stripped of its prompt: the commonest case in practice.
        versions.append(Edited(row.astype(np.int64), np.arange(spec.window)))
        versions += [apply_edits(row, draw_edits(rng), pool, rng) for _ in range(spec.versions - 1)]
    edited_ids = torch.full((len(versions), longest), -1, dtype=torch.int32)
    origin = torch.full((len(versions), longest), FOREIGN, dtype=torch.int32)
    for i, version in enumerate(versions):
        size = min(longest, len(version.ids))
        edited_ids[i, :size] = torch.from_numpy(version.ids[:size])
        origin[i, :size] = torch.from_numpy(version.origin[:size])
    states = []
    for rows in edited_ids.split(16):
        inputs = torch.cat([torch.tensor(prefix, dtype=torch.long).expand(len(rows), -1), rows.long().clamp(min=0)[:, :-1]], dim=1)
        mask = torch.cat([torch.ones(len(rows), len(prefix), dtype=torch.long), (rows[:, :-1] >= 0).long()], dim=1)
        hidden = lm.trunk_states(inputs.to(lm.device), mask.to(lm.device), spec.query_layers)
        states.append(_pack(hidden[:, len(prefix) - 1 :]))
    group = (len(ids), spec.versions)
    return {
        "edited_ids": edited_ids.unflatten(0, group),
        "origin": origin.unflatten(0, group),
        "edited_states": torch.cat(states).unflatten(0, group),
    }


def shard(lm: TorchLM, ids: np.ndarray, prompt: int, spec: FeatureSpec, rng: np.random.Generator) -> Shard:
    """Original and edited versions of the windows `ids` (N, P+T)."""
    prefix = leading_token(lm)
    return _original(lm, torch.from_numpy(ids), prompt, spec) | _edited(lm, ids, prompt, prefix or [0], spec, rng)


MakeShard = Callable[[TorchLM, np.ndarray, int, FeatureSpec, np.random.Generator], Shard]


def compute_features(
    lm: TorchLM,
    corpus: Path,
    folder: Path,
    spec: FeatureSpec,
    on_shard: Callable[[int, int], None] | None = None,
    make: MakeShard = shard,
    processes: Processes = ALONE,
) -> list[Path]:
    """Fill `folder` with shards and return them in order; shards that are there already are kept. Several processes share the work.

    Raises InvalidInput if the folder holds features of another spec, model or corpus, the corpus is too small, or the processes do not
    see one folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    description = json.dumps({**asdict(spec), "model": lm.tokenizer_digest(), "corpus": str(corpus.name)}, sort_keys=True)
    marker = folder / "spec.json"

    def claim() -> None:
        if marker.exists() and marker.read_text() != description:
            raise InvalidInput(f"{folder} holds features of another configuration. Delete it or name another folder.")
        marker.write_text(description)

    processes.from_main(claim)
    total, human = _shards(spec), -(-spec.documents // spec.shard)
    rng = np.random.default_rng(spec.seed)
    paths = []
    for index, (prompt, ids) in enumerate(windows(lm, corpus, spec, rng)):
        path = folder / f"shard-{index:04d}.safetensors"
        if index % processes.count == processes.index and not path.exists():
            if index >= human:
                ids = _continue(lm, ids, prompt, (spec.seed, index, 1))
            made = make(lm, ids, prompt, spec, np.random.default_rng([spec.seed, index]))
            partial = path.with_suffix(".partial")
            save_file({k: v.contiguous() for k, v in made.items()}, partial)
            partial.replace(path)
        paths.append(path)
        if on_shard:
            on_shard(index + 1, total)
    processes.wait()
    if missing := [path.name for path in paths if not path.exists()]:
        raise InvalidInput(f"{folder} has no {missing[0]}: all machines of a run need the same folder of features, on a shared disk.")
    return paths


def load_shard(path: Path) -> Shard:
    """One shard, on the CPU."""
    return load_file(path)
