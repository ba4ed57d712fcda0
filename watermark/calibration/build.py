"""Making a checkpoint's calibration: unmarked texts of several kinds are read, marked and unmarked ones are written and read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from watermark.calibration.file import Calibration, describe, fingerprint
from watermark.calibration.null import NullSample
from watermark.calibration.power import Power
from watermark.calibration.prefixes import PrefixEvidence, prefix_evidence
from watermark.errors import InvalidInput
from watermark.evaluation.records import first_tokens
from watermark.pipeline import WatermarkedModel
from watermark.statistics.rademacher import RademacherTail
from watermark.training.corpus import shuffled_documents
from watermark.training.finished import FinishedSpec, write_marked

NULL_LENGTHS = (16, 32, 64, 128, 256, 512, 1024)
POWER_LENGTHS = (8, 12, 16, 20, 25, 30, 40, 50, 60, 80, 100, 125, 150, 175, 200)
FEWEST_MARKED = 20
"""Lengths that fewer marked texts reach are left out."""
MODEL = "model"
"""The kind of the texts that the language model writes itself, without a mark."""
Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Kind:
    """Unmarked texts of one kind."""

    name: str
    source: Path
    """A file of JSON lines with a "text", or a folder of such files."""
    count: int
    """Texts to draw at most."""


@dataclass(frozen=True)
class CalibrationSettings:
    written: int = 160
    """Texts to write with a mark, and as many without."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.written < FEWEST_MARKED:
            raise InvalidInput(f"A calibration needs at least {FEWEST_MARKED} written texts; got {self.written}.")


def calibrate(model: WatermarkedModel, kinds: Sequence[Kind], work: Path, settings: CalibrationSettings, advance: Advance) -> Calibration:
    """Measure null and power of a model; passages of the first kind are also continued by it.

    Evidence and texts are kept in the folder `work`, so that an interrupted run goes on; `advance(stage, done, of)`.
    Raises InvalidInput: no kinds, a kind twice, or no text long enough.
    """
    names = [kind.name for kind in kinds]
    if not kinds or len({*names, MODEL}) <= len(names):
        raise InvalidInput(f"Give unmarked texts of at least one kind, each once; {MODEL!r} is the name of what the model writes itself.")
    work.mkdir(parents=True, exist_ok=True)
    texts: list[str] = []
    samples: list[tuple[str, PrefixEvidence]] = []

    def add(name: str, found: Sequence[str]) -> None:
        texts.extend(found)
        samples.append((name, _read(model, found, NULL_LENGTHS, work / f"null-{name}", f"unmarked, {name}", advance)))

    for number, kind in enumerate(kinds):
        documents = shuffled_documents(kind.source, np.random.default_rng([settings.seed, number]))
        add(kind.name, list(itertools.islice(documents, kind.count)))
    add(MODEL, _written(model, kinds[0].source, 0.0, work / "unmarked.json", settings, advance)[0])
    sample = _sample(samples)
    marked, signs = _written(model, kinds[0].source, 1.0, work / "marked.json", settings, advance)
    power = _power(_read(model, marked, POWER_LENGTHS, work / "marked", "marked", advance), signs)
    made: dict[str, object] = {"texts": describe(sample.kinds, sample), "marked": len(power.exponents), "seed": settings.seed}
    made["sources"] = {kind.name: kind.source.name for kind in kinds}
    return Calibration(sample, power, np.array([fingerprint(text) for text in texts], dtype=np.uint64), made)


def _read(
    model: WatermarkedModel, texts: Sequence[str], lengths: Sequence[int], folder: Path, stage: str, advance: Advance
) -> PrefixEvidence:
    def beginnings(batch: Sequence[str]) -> list:
        return model.evidence([first_tokens(model.lm, text, lengths[-1]) or text for text in batch])

    return prefix_evidence(beginnings, texts, lengths, folder, model.name, lambda done, of: advance(stage, done, of))


def _sample(samples: Sequence[tuple[str, PrefixEvidence]]) -> NullSample:
    evidence, length, kind, text, offset = [], [], [], [], 0
    for number, (_, found) in enumerate(samples):
        for tokens in NULL_LENGTHS:
            rows, texts = found.at(tokens)
            evidence.append(rows)
            length.append(np.full(len(rows), tokens, dtype=np.int32))
            kind.append(np.full(len(rows), number, dtype=np.int32))
            text.append((texts + offset).astype(np.int32))
        offset += len(found.tokens)
    everything = np.concatenate(evidence)
    if not len(everything):
        raise InvalidInput(f"No text has {NULL_LENGTHS[0]} tokens.")
    return NullSample.of([name for name, _ in samples], everything, *(np.concatenate(column) for column in (length, kind, text)))


def _written(
    model: WatermarkedModel, corpus: Path, strength: float, path: Path, settings: CalibrationSettings, advance: Advance
) -> tuple[list[str], np.ndarray]:
    """Texts that the model writes and their codewords (texts, n), kept in a file."""
    if not path.exists():
        spec = FinishedSpec(texts=settings.written, length=POWER_LENGTHS[-1], seed=settings.seed)
        stage = f"writing, {'marked' if strength else 'unmarked'}"
        texts, signs = write_marked(model.lm, model.pair, corpus, spec, lambda done: advance(stage, done, spec.texts), strength)
        packed = [np.packbits(row > 0).tobytes().hex() for row in signs.numpy()]
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"texts": texts, "signs": packed}), encoding="utf-8")
        partial.replace(path)
    kept = json.loads(path.read_text(encoding="utf-8"))
    bits = np.unpackbits(np.array([list(bytes.fromhex(row)) for row in kept["signs"]], dtype=np.uint8), axis=1)
    return kept["texts"], bits[:, : model.config.n].astype(np.int8) * 2 - 1


def _power(found: PrefixEvidence, signs: np.ndarray) -> Power:
    exponents = np.full((len(signs), len(POWER_LENGTHS)), np.nan, dtype=np.float32)
    for column, length in enumerate(POWER_LENGTHS):
        for evidence, row in zip(*found.at(length), strict=True):
            exponents[row, column] = -np.log10(RademacherTail(evidence).pvalue(float(signs[row] @ evidence.astype(np.float64))))
    # A text may re-tokenise into fewer tokens than were written, so that the longest lengths lose a few.
    counts = (~np.isnan(exponents)).sum(axis=0)
    kept = np.flatnonzero(counts >= FEWEST_MARKED)
    if not len(kept):
        raise InvalidInput(f"Fewer than {FEWEST_MARKED} written texts have {POWER_LENGTHS[0]} tokens.")
    return Power(tuple(POWER_LENGTHS[i] for i in kept), exponents[:, kept])
