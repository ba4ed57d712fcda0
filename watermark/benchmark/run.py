"""One benchmark, from prompts to report.json, report.md and plots."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from watermark.base_model import FrozenLM
from watermark.benchmark import payload, quality
from watermark.benchmark.decoding import write
from watermark.benchmark.detection import detection_cells, threshold_cells
from watermark.benchmark.divergence import divergence
from watermark.benchmark.methods import Method, Order, Writer
from watermark.benchmark.ours import Ours
from watermark.benchmark.page import page
from watermark.benchmark.plot import plot_detection, plot_quality
from watermark.benchmark.scoring import Cell, Scores, Texts, human_texts, model_texts, score
from watermark.benchmark.settings import RATES, BenchmarkSettings
from watermark.benchmark.texts import UNMARKED, write_texts
from watermark.benchmark.timing import timing
from watermark.evaluation import records
from watermark.evaluation.attacks import Materials
from watermark.evaluation.attacks.words import vocabulary
from watermark.evaluation.generation import Progress, WorkFolder, WrittenText
from watermark.inference.torch_lm import TorchLM
from watermark.sampling.requests import SamplingSettings

FORMAT_VERSION = 1
PASSAGES_FOR_WORDS = 2000
"""Human passages whose words are put into attacked texts, beside those of unmarked texts."""


class Unmarked:
    """The model by itself: what every method is compared to. See `Writer`."""

    name, title = UNMARKED, "unmarked"

    def __init__(self, lm: FrozenLM) -> None:
        self.lm, self.settings = lm, dict[str, Any]()

    def write(self, orders: Sequence[Order], sampling: SamplingSettings, *, marked: bool = True) -> list[list[int]]:
        return write(self.lm, orders, sampling, None)


class Benchmark:
    """The parts of a run that all methods share."""

    def __init__(self, lm: FrozenLM, judge: TorchLM, settings: BenchmarkSettings, progress: Progress) -> None:
        self.lm, self.judge, self.settings, self.progress = lm, judge, settings, progress
        sets = [records.read_prompts(path) for path in settings.prompts]
        drawn = records.draw_prompts(sets, settings.scale.n, settings.seed)
        self.prompts = [records.Prompt(records.last_tokens(lm, p.text), p.human, p.source) for p in drawn]
        self.passages = records.read_passages(settings.human)
        self.sampling = SamplingSettings(max_new_tokens=settings.longest, temperature=settings.temperature, top_k=settings.top_k)
        self.bound = {
            "base_model": lm.name,
            "backend": lm.backend,
            "prompts": [[path.name, records.file_digest(path)] for path in settings.prompts],
            "human_file": [settings.human.name, records.file_digest(settings.human)],
            "n": len(self.prompts),
            "longest": settings.longest,
            "seed": settings.seed,
            "temperature": settings.temperature,
            "top_k": settings.top_k,
        }

    def work(self, method: Writer) -> WorkFolder:
        """Raises InvalidInput when the folder was filled with other settings."""
        return WorkFolder(self.settings.out / "work" / method.name, {**self.bound, "method": method.settings})

    def texts(self, method: Writer) -> list[WrittenText]:
        return write_texts(
            method,
            self.prompts,
            self.sampling,
            self.work(method),
            seed=self.settings.seed,
            batch_size=self.settings.batch_size,
            lm=self.lm,
            progress=self.progress,
        )

    def edited(self, texts: Sequence[WrittenText], materials: Materials) -> Texts:
        scale = self.settings.scale
        return model_texts(self.lm, texts, scale.lengths, scale.attacks, materials, self.settings.seed)

    def scores(self, method: Method, texts: Mapping[Cell, Sequence[str]]) -> Scores:
        return score(method, texts, self.work(method), self.progress)

    def quality(self, method: Method, marked: Sequence[WrittenText], unmarked: Sequence[WrittenText], plain: Writer) -> dict[str, Any]:
        """Likelihood, repetition, likeness, variety and time of one method."""
        settings, work = self.settings, self.work(method)
        pair = marked[: settings.scale.quality], unmarked[: settings.scale.quality]
        ours, theirs = (
            quality.measured_likelihoods(self.judge, self.judge.name, texts, folder, self.progress)
            for texts, folder in ((pair[0], work), (pair[1], self.work(plain)))
        )
        shape = settings.scale.diversity
        drawn = quality.draws(method, self.prompts, shape, self.sampling, work, lm=self.lm, seed=settings.seed, progress=self.progress)
        prompts = [prompt.text for prompt in self.prompts]
        return {
            "quality": quality.quality(self.lm, settings.scale.lengths, pair, (ours, theirs), settings.seed),
            "similarity": quality.similarity(self.judge, self.prompts, *pair, work, seed=settings.seed, progress=self.progress),
            "diversity": quality.diversity(drawn, settings.seed),
            "timing": timing(method, prompts, [text.text for text in marked], self.sampling, work, self.progress),
        }

    def second_opinion(
        self, judge: TorchLM, name: str, methods: Sequence[Writer], texts: Mapping[str, Sequence[WrittenText]]
    ) -> dict[str, dict[str, float]]:
        """Perplexity of each method's texts under a model that had no part in writing them."""
        chosen = {key: of_method[: self.settings.scale.quality] for key, of_method in texts.items()}
        measured = {
            method.name: quality.measured_likelihoods(
                judge, name, [quality.in_tokens_of(judge, text) for text in chosen[method.name]], self.work(method), self.progress
            )
            for method in methods
        }
        characters = {key: [len(text.text) for text in of_method] for key, of_method in chosen.items()}
        return {
            method.name: quality.independent_perplexity(
                (measured[method.name], measured[UNMARKED]), (characters[method.name], characters[UNMARKED])
            )
            for method in methods
        }

    def payload(self, method: Ours, materials: Materials) -> list[dict[str, Any]]:
        settings, work = self.settings, self.work(method)
        prompts = self.prompts[: settings.scale.payload]
        ids = payload.write_messages(
            method, prompts, self.sampling, work, seed=settings.seed, batch_size=settings.batch_size, progress=self.progress
        )
        written = [
            WrittenText(settings.longest, i, True, prompt.source, prompt.text, self.lm.decode(one), tuple(one), None, 0)
            for i, (prompt, one) in enumerate(zip(prompts, ids, strict=True))
        ]
        return payload.payload_cells(method, self.edited(written, materials), work, seed=settings.seed, progress=self.progress)


def run_benchmark(
    methods: Sequence[Method],
    lm: FrozenLM,
    settings: BenchmarkSettings,
    *,
    judge: TorchLM,
    independent: tuple[str, TorchLM] | None = None,
    command: str = "",
    progress: Progress,
) -> dict[str, Any]:
    """Do what is missing in `settings.out`/work, and write the report; the report.

    The first of `methods` is the one that the others are held against. `judge` is the base model in full precision; `independent` another
    model, by its name. A run that was broken off goes on when called again; methods, attacks, lengths below the longest and human
    texts may be added. Raises InvalidInput for a change of anything that texts or scores on record depend on.
    """
    shared = Benchmark(lm, judge, settings, progress)
    plain = Unmarked(lm)
    for method in (plain, *methods):
        shared.work(method)  # refuses other settings before any work is done
    texts = {method.name: shared.texts(method) for method in (plain, *methods)}
    words = vocabulary([*(text.text for text in texts[UNMARKED]), *(p.text for p in shared.passages[:PASSAGES_FOR_WORDS])])
    materials = Materials(words, [passage.text for passage in shared.passages])
    progress("cutting human texts", 0, 1)
    common = human_texts(lm, shared.passages, settings.scale.lengths, settings.scale.human, settings.seed)
    common |= shared.edited(texts[UNMARKED], materials)
    progress("cutting human texts", 1, 1)
    found: dict[str, dict[str, Any]] = {}
    for method in methods:
        scores = shared.scores(method, {**common, **shared.edited(texts[method.name], materials)})
        found[method.name] = {
            "title": method.title,
            "ours": isinstance(method, Ours),
            "settings": method.settings,
            "detection": detection_cells(scores, RATES),
            "thresholds": threshold_cells(scores, RATES),
            "payload": shared.payload(method, materials) if isinstance(method, Ours) else None,
        }
    for method in methods:
        found[method.name] |= shared.quality(method, texts[method.name], texts[UNMARKED], plain)
        chosen = texts[method.name][: settings.scale.quality]
        found[method.name]["divergence"] = (
            divergence(method, chosen, shared.work(method), seed=settings.seed, progress=progress) if isinstance(method, Ours) else None
        )
    drawn = quality.draws(
        plain, shared.prompts, settings.scale.diversity, shared.sampling, shared.work(plain), lm=lm, seed=settings.seed, progress=progress
    )
    opinions = shared.second_opinion(independent[1], independent[0], (plain, *methods), texts) if independent else None
    report = {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "settings": {**shared.bound, "preset": settings.preset, **asdict(settings.scale), "batch_size": settings.batch_size},
        "versions": _versions(),
        "machine": {"processors": os.cpu_count(), "device": str(lm.device)},
        "judge": judge.name,
        "independent_judge": independent[0] if independent else None,
        "default": methods[0].name,
        "methods": found,
        "unmarked": {"diversity": quality.diversity(drawn, settings.seed)},
        "independent_perplexity": opinions,
    }
    report = json.loads(json.dumps(report))
    out = settings.out
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.md").write_text(page(report), encoding="utf-8")
    plot_detection(report, out / "detection.png")
    plot_quality(report, out / "quality.png")
    return report


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("countersign", "torch", "transformers", "textseal", "openvino", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
