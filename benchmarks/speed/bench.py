"""What every measure needs: how much to do, and the contestants by name."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load_texts import PROMPTS
from benchmarks.speed.contest import Contestant, NotInstalled
from models.gguf_package import assemble
from models.registry import DEFAULT_BASE_MODEL, REGISTRY, default_checkpoint, prepare_base_model

TOP_K = 64
BATCH = 16
BATCH_PROMPTS = (
    *PROMPTS,
    "The train to the coast leaves twice a day, but",
    "What the farmers of the region like best about",
    "She opened the second envelope and found",
    "According to the new timetable, the library will",
)
assert len(BATCH_PROMPTS) == BATCH
OPTIONAL = ("llamacpp", "textseal")
"""Contestants whose libraries Countersign itself does not need."""


@dataclass(frozen=True)
class Settings:
    rounds: int = 5
    new_tokens: int = 128
    overhead_tokens: int = 16
    """Of other watermarks, held against each other: the slowest takes seconds a token."""
    text_tokens: int = 200
    single_texts: int = 20
    batch_texts: int = 64
    lengths: tuple[int, ...] = (1_000, 3_000, 10_000, 30_000, 100_000)
    source_tokens: int = 640
    """Each of `BATCH` texts whose sentences the long ones are made of."""
    seed: int = 1


QUICK = Settings(
    rounds=1,
    new_tokens=8,
    overhead_tokens=2,
    text_tokens=40,
    single_texts=2,
    batch_texts=4,
    lengths=(100, 300, 1_000),
    source_tokens=40,
)
"""To see that everything runs; its figures mean nothing."""


@dataclass
class Bench:
    settings: Settings
    threads: int
    scratch: Path
    """A folder for this run alone."""
    textseal_python: str = sys.executable
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of the libraries that took part."""
    _gguf: Path | None = None

    @contextlib.contextmanager
    def contest(self, *names: str, parallel: int = 1) -> Iterator[tuple[dict[str, Contestant], dict[str, str]]]:
        """The contestants that are installed, loaded and waiting; and for the others, which package is missing."""
        with contextlib.ExitStack() as stack:
            present, absent = {}, {}
            for name in names:
                try:
                    contestant = self._load(name, parallel)
                except NotInstalled as missing:
                    if name not in OPTIONAL:
                        raise
                    absent[name] = missing.package
                    continue
                present[name] = stack.enter_context(contestant)
                self.versions[name] = contestant.versions
            yield present, absent

    def _load(self, name: str, parallel: int) -> Contestant:
        python = self.textseal_python if name == "textseal" else sys.executable
        return Contestant(f"benchmarks.speed.{name}_engine", self._options(name, parallel), self.threads, python)

    def _options(self, name: str, parallel: int) -> dict[str, Any]:
        if name == "countersign":
            return {"base_model": DEFAULT_BASE_MODEL, "checkpoint": str(default_checkpoint(DEFAULT_BASE_MODEL)), "top_k": TOP_K}
        if name == "llamacpp":
            return {"gguf": str(self.gguf()), "parallel": parallel, "top_k": TOP_K}
        folder = {"folder": str(prepare_base_model(DEFAULT_BASE_MODEL))}
        return folder if name == "textseal" else {**folder, "top_k": TOP_K}

    def gguf(self) -> Path:
        """The default model's own file, put together once a run. Raises NotInstalled."""
        if self._gguf is None:
            package = REGISTRY[DEFAULT_BASE_MODEL].package
            try:
                pieces = [Path(piece) for piece in importlib.import_module(package.module).chunk_paths()]
            except ModuleNotFoundError:
                raise NotInstalled(package.distribution) from None
            path = self.scratch / "model.gguf"
            assemble(pieces, package.sha256, path, lambda share: None)
            self._gguf = path
        return self._gguf
