"""Finished texts: written and marked by the pair, edited as strings, read again as a verifier reads them.

What the joint training only imitates is real here: whole marked texts, words instead of tokens, re-tokenisation, the masks of
repeated contexts. The attention is fixed by now, so its output is kept and a step of the refinement costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from watermark.base_model import FrozenLM
from watermark.embedding.repeats import first_occurrences
from watermark.evaluation.attacks import Attack, Materials, attack
from watermark.evaluation.attacks.words import vocabulary
from watermark.extraction.reading import leading_token
from watermark.inference.torch_lm import TorchLM
from watermark.pair import AnyPair, WatermarkPair
from watermark.sampling.decode import Row, decode
from watermark.sampling.requests import SamplingSettings
from watermark.training.corpus import shuffled_documents
from watermark.training.features import FeatureSpec, windows

ATTACKS = (
    *("clean", "delete-10", "delete-30", "substitute-10", "substitute-30", "insert-20", "swap-20", "typos-10"),
    *("lower-case", "strip-punctuation", "first-half", "last-half", "copy-paste-50"),
)
BATCH = 32


@dataclass(frozen=True)
class FinishedSpec:
    texts: int = 384
    length: int = 128
    """Tokens per text."""
    versions: int = 4
    """Edited versions per text, besides the text as it stands."""
    seed: int = 0


Finished = dict[str, Tensor]
"""signs (N, n) int8 · text (R,) index into N · ids, counted (R, T) · features (R, T, F) half · attention (R, T, rounds, slots) half."""


def write_marked(
    lm: FrozenLM, pair: AnyPair, corpus: Path, spec: FinishedSpec, on_batch: Callable[[int], None], strength: float = 1.0
) -> tuple[list[str], Tensor]:
    """Marked continuations of corpus prompts, and the codeword (texts, n) of each: random signs, as any key's are.

    With `strength` 0 the same prompts are continued without a mark.
    """
    layers = pair.config.query_layers
    rng = np.random.default_rng([spec.seed, 2])
    source = windows(lm, corpus, FeatureSpec(documents=spec.texts, window=spec.length, query_layers=layers, shard=BATCH), rng)
    sampling = SamplingSettings(temperature=1.0, top_k=64, max_new_tokens=spec.length, min_new_tokens=spec.length)
    texts: list[str] = []
    signs: list[Tensor] = []
    for prompt, ids in source:
        batch = torch.from_numpy(rng.integers(0, 2, (len(ids), pair.config.n)).astype(np.float32) * 2 - 1)
        uniforms = torch.from_numpy(rng.random((len(ids), spec.length)))
        rows = [Row(row[:prompt].tolist(), sampling, u, signs, strength) for row, u, signs in zip(ids, uniforms, batch, strict=True)]
        texts += [lm.decode(row.ids) for row in decode(lm, pair.embedder, rows, layers)]
        signs.append(batch.to(torch.int8))
        on_batch(len(texts))
    return texts[: spec.texts], torch.cat(signs)[: spec.texts]


def edited_texts(texts: list[str], corpus: Path, spec: FinishedSpec) -> tuple[list[str], list[int]]:
    """Each text as it stands and in `versions` edited forms, and the number of the text that each came from."""
    rng = np.random.default_rng([spec.seed, 3])
    documents = shuffled_documents(corpus, rng)
    passages = [next(documents)[:1500] for _ in range(64)]
    materials = Materials(vocabulary(passages), passages)
    attacks: list[Attack] = [attack(name, materials) for name in ATTACKS]
    found, origin = [], []
    for number, text in enumerate(texts):
        chosen = rng.choice(len(attacks) - 1, spec.versions, replace=False) + 1
        found += [attacks[int(i)](text, rng) for i in (0, *chosen)]
        origin += [number] * (spec.versions + 1)
    return found, origin


@torch.inference_mode()
def read_finished(lm: TorchLM, pair: WatermarkPair, texts: list[str], on_batch: Callable[[int], None] = lambda done: None) -> Finished:
    """What the extractor sees of each text before its own network: features, attention and which positions count."""
    lead = leading_token(lm)[-1:]
    tokenised = [lm.tokenize(text) for text in texts]
    rows = [lead + tokens.ids[tokens.prefix :] for tokens in tokenised]
    rows = [row if len(row) > 1 else [0, 0] for row in rows]  # nothing to score: one token that does not count
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # texts of one length make a batch without padding
    longest = max(map(len, rows)) - 1
    data: Finished = {}
    for first in range(0, len(rows), BATCH):
        chosen = order[first : first + BATCH]
        width = len(rows[chosen[-1]]) - 1
        ids = torch.zeros(len(chosen), width, dtype=torch.long)
        inputs, valid = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for k, i in enumerate(chosen):
            size = len(rows[i]) - 1
            inputs[k, :size], ids[k, :size] = torch.tensor(rows[i][:-1]), torch.tensor(rows[i][1:])
            valid[k, :size] = len(tokenised[i].ids) > tokenised[i].prefix
        inputs, ids, valid = inputs.to(lm.device), ids.to(lm.device), valid.to(lm.device)
        features = pair.normaliser(lm.trunk_states(inputs, valid.long(), pair.config.query_layers))
        attention = pair.attention(features)
        counted = first_occurrences(attention, ids, valid, pair.config.repeat_threshold)
        for name, tensor in {"ids": ids.int(), "counted": counted, "features": features.half(), "attention": attention.half()}.items():
            if name not in data:
                data[name] = torch.zeros(len(rows), longest, *tensor.shape[2:], dtype=tensor.dtype)
            data[name][chosen, :width] = tensor.cpu()
        on_batch(min(first + BATCH, len(rows)))
    return data


def finished_texts(
    lm: TorchLM, pair: WatermarkPair, corpus: Path, file: Path, spec: FinishedSpec, on_batch: Callable[[str, int, int], None]
) -> Finished:
    """The data of the refinement, from `file` if an earlier run left it there. `on_batch(stage, done, total)` tells how far it is."""
    if not file.exists():
        texts, signs = write_marked(lm, pair, corpus, spec, lambda done: on_batch("writing texts", done, spec.texts))
        edited, origin = edited_texts(texts, corpus, spec)
        seen = read_finished(lm, pair, edited, lambda done: on_batch("reading edited texts", done, len(edited)))
        data = {**seen, "signs": signs, "text": torch.tensor(origin)}
        partial = file.with_suffix(".partial")
        save_file({name: tensor.contiguous() for name, tensor in data.items()}, partial)
        partial.replace(file)
    return load_file(file)
