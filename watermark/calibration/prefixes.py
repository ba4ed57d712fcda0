"""Evidence of many texts at several lengths, kept on disk: computed once, asked for any key.

The trunk of the language model is causal and evidence is additive, so the evidence of a text's first k tokens is a prefix sum
of the evidence of the whole: one reading serves every length. Texts are worked on in shards; a run that is broken off goes on
after the last shard it wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from watermark.errors import InvalidInput
from watermark.extraction.extractor import Evidence

SHARD = 256
"""Texts per file."""
Read = Callable[[Sequence[str]], list[Evidence]]


@dataclass(frozen=True)
class PrefixEvidence:
    """`evidence` (texts, lengths, n) float32 of the first `lengths` tokens; zero where a text has fewer (`tokens`, (texts,))."""

    lengths: tuple[int, ...]
    evidence: np.ndarray
    tokens: np.ndarray

    def at(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Evidence (m, n) at one of the lengths, of the texts that are long enough, and the numbers of those texts (m,)."""
        rows = np.flatnonzero(self.tokens >= length)
        return self.evidence[rows, self.lengths.index(length)].astype(np.float32), rows


def prefix_evidence(
    read: Read, texts: Sequence[str], lengths: Sequence[int], folder: Path, identity: str, progress: Callable[[int, int], None]
) -> PrefixEvidence:
    """Read `texts` up to the longest of `lengths` (tokens), or take what `folder` holds of them already.

    `read` gives the evidence of texts; `identity` names the checkpoint, so that a folder is never used for another one
    (InvalidInput). `progress(done, of)` counts texts and may raise to stop; what is done stays.
    """
    lengths = tuple(sorted(set(lengths)))
    if not texts or not lengths or lengths[0] < 1:
        raise InvalidInput("Evidence by length needs at least one text and lengths of at least one token.")
    digest = hashlib.sha256(json.dumps([identity, lengths, list(texts)]).encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    label = folder / "texts.json"
    if label.exists() and json.loads(label.read_text())["sha256"] != digest:
        raise InvalidInput(f"{folder} holds the evidence of other texts, lengths or another checkpoint. Choose another folder.")
    label.write_text(json.dumps({"sha256": digest, "texts": len(texts), "lengths": lengths}) + "\n")
    shards = []
    for start in range(0, len(texts), SHARD):
        path = folder / f"{start:08d}.safetensors"
        if not path.exists():
            _write_shard(path, read(texts[start : start + SHARD]), lengths)
        shards.append(load_file(path))
        progress(min(start + SHARD, len(texts)), len(texts))
    return PrefixEvidence(lengths, np.concatenate([s["evidence"] for s in shards]), np.concatenate([s["tokens"] for s in shards]))


def _write_shard(path: Path, read: Sequence[Evidence], lengths: tuple[int, ...]) -> None:
    # Half precision is off by less than one part in a thousand per sign: far less than the evidence itself varies.
    rows = np.stack([[_beginning(e, k) for k in lengths] for e in read])
    partial = path.with_suffix(".partial")
    save_file({"evidence": rows.astype(np.float16), "tokens": np.array([e.tokens for e in read], dtype=np.int32)}, partial)
    partial.replace(path)


def _beginning(evidence: Evidence, tokens: int) -> np.ndarray:
    return evidence.per_token[: tokens if evidence.tokens >= tokens else 0].sum(axis=0, dtype=np.float32)
