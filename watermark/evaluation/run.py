"""One evaluation from prompts to report.json and report.png."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watermark.errors import InvalidInput
from watermark.evaluation import records
from watermark.evaluation.attacks import Materials, attack
from watermark.evaluation.generation import Job, Progress, WorkFolder, WrittenText, evaluation_keys, write_texts
from watermark.evaluation.plot import plot_detection
from watermark.evaluation.quality import Likelihood, embeddings, likelihoods
from watermark.evaluation.report import detection_cells, quality_cells, similarity_cell
from watermark.evaluation.scoring import all_samples, human_passages, score

if TYPE_CHECKING:
    from watermark.inference.torch_lm import TorchLM
    from watermark.pipeline import WatermarkedModel

FORMAT_VERSION = 2
SIMILARITY_TOKENS = 100


@dataclass(frozen=True)
class EvaluationSettings:
    prompts: tuple[Path, ...]
    out: Path
    human: Path | None = None
    attacks: tuple[str, ...] = ()
    paraphraser: tuple[str, ...] = ()
    """Command of the attack `paraphrase`, with its arguments."""
    n: int = 300
    """Prompts, each continued at every length."""
    lengths: tuple[int, ...] = (100,)
    seed: int = 0
    temperature: float = 1.0
    top_k: int = 64
    batch_size: int = 16
    false_positive_rate: float = 1e-3

    def __post_init__(self) -> None:
        checks = [
            (bool(self.prompts), "Give at least one file of prompts."),
            (self.n >= 1, f"n must be at least 1; got {self.n}."),
            (bool(self.lengths) and min(self.lengths) >= 1, f"lengths must be whole numbers of tokens from 1; got {self.lengths}."),
            (self.batch_size >= 1, f"batch_size must be at least 1; got {self.batch_size}."),
            (0 <= self.seed < 2**63, f"seed must be 0 … 2^63 - 1; got {self.seed}."),
            (self.out.suffix == ".json", f"The report must be a .json file; got {self.out.name!r}."),
        ]
        for ok, message in checks:
            if not ok:
                raise InvalidInput(message)
        for name in self.attacks:
            # An unknown name, or a program that is not there, is to fail now, not after hours of generation.
            attack(name, Materials(["word"], ["text"], self.paraphraser))


def run_evaluation(
    model: WatermarkedModel,
    settings: EvaluationSettings,
    *,
    judge: TorchLM,
    checkpoint_digest: str = "",
    command: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Generate what is missing in `<out without .json>.work/`, score everything, write the report and its plot; the report.

    An interrupted run goes on where it stopped when called again with the same settings; `n`, `lengths`, `attacks`, `human`,
    `paraphraser` and the false-positive rate may change, because they do not touch the texts that are there. `judge` measures perplexity
    and likeness: the base model in full precision, whatever wrote the texts.
    """
    sets = [records.read_prompts(path) for path in settings.prompts]
    drawn = records.draw_prompts(sets, settings.n, settings.seed)
    prompts = [records.Prompt(records.last_tokens(model.lm, p.text), p.human, p.source) for p in drawn]
    passages = records.read_passages(settings.human) if settings.human else human_passages([p for s in sets for p in s])
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    bound = {
        "base_model": model.lm.name,
        "backend": model.lm.backend,
        "checkpoint": model.name,
        "checkpoint_digest": checkpoint_digest,
        "prompts": [[path.name, records.file_digest(path)] for path in settings.prompts],
        "seed": settings.seed,
        "temperature": settings.temperature,
        "top_k": settings.top_k,
    }
    work = WorkFolder(settings.out.with_suffix(".work"), bound)
    texts = write_texts(
        model,
        prompts,
        settings.lengths,
        work,
        seed=settings.seed,
        temperature=settings.temperature,
        top_k=settings.top_k,
        batch_size=settings.batch_size,
        progress=progress,
    )
    samples = all_samples(model, texts, settings.attacks, passages, seed=settings.seed, paraphraser=settings.paraphraser)
    keys = evaluation_keys(settings.seed)
    scores = score(model, samples, keys, false_positive_rate=settings.false_positive_rate, progress=progress)
    work.replace("scores.jsonl", ({**asdict(s.sample), "p_value": s.p_value, "detected": s.detected, "tokens": s.tokens} for s in scores))
    report = {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "settings": {
            **bound,
            "n": len(prompts),
            "lengths": settings.lengths,
            "attacks": settings.attacks,
            "human": settings.human.name if settings.human else "the human continuations of the prompts",
            "false_positive_rate": settings.false_positive_rate,
            "keys": len(keys),
            "batch_size": settings.batch_size,
        },
        "versions": _versions(),
        "device": str(model.lm.device),
        "detection": detection_cells(scores),
        "quality": quality_cells(texts, _cached_likelihoods(judge, texts, work, progress), seed=settings.seed),
        "similarity": _similarity(judge, prompts, texts, settings.seed),
    }
    settings.out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    plot_detection(report, settings.out.with_suffix(".png"))
    return report


def _cached_likelihoods(judge: TorchLM, texts: Sequence[WrittenText], work: WorkFolder, progress: Progress | None) -> dict[Job, Likelihood]:
    found = {Job(r["length"], r["number"], r["marked"]): Likelihood(tuple(r["nlls"])) for r in work.read("likelihoods.jsonl")}
    longest = max(text.length for text in texts)
    wanted = [text for text in texts if text.length == longest]
    missing = [text for text in wanted if text.job not in found]

    def keep(indices: list[int], results: list[Likelihood]) -> None:
        new = {missing[i].job: result for i, result in zip(indices, results, strict=True)}
        found.update(new)
        work.append("likelihoods.jsonl", ({**asdict(job), **asdict(result)} for job, result in new.items()))
        if progress:
            progress("measuring perplexity", sum(text.job in found for text in wanted), len(wanted))

    prompts = [judge.tokenize(text.prompt).ids for text in missing]
    likelihoods(judge, prompts, [text.token_ids for text in missing], on_batch=keep)
    return found


def _similarity(judge: TorchLM, prompts: Sequence[records.Prompt], texts: Sequence[WrittenText], seed: int) -> dict[str, Any] | None:
    """How near the continuations are to what a person wrote after the same prompt; None if no prompt has a human continuation."""
    longest = max(text.length for text in texts)
    tokens = min(longest, SIMILARITY_TOKENS)
    written = {(text.number, text.marked): text.text for text in texts if text.length == longest}
    numbers = [i for i, prompt in enumerate(prompts) if prompt.human]
    if not numbers:
        return None
    columns = [[prompts[i].human for i in numbers], *([written[i, marked] for i in numbers] for marked in (True, False))]
    found = embeddings(judge, [text for column in columns for text in column], tokens).split(len(numbers))
    return {"tokens": tokens, **similarity_cell(numbers, *found, seed=seed)}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("countersign", "torch", "transformers", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
