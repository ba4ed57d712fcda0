"""The slow part: marked and unmarked continuations of the same prompts with the same seeds, kept in a work folder.

Every finished batch is appended to `texts.jsonl` at once; what is there already is not generated again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watermark.codebook.keys import IssuerKey
from watermark.errors import InvalidInput
from watermark.evaluation.records import Prompt
from watermark.sampling.requests import GenerationRequest, SamplingSettings

if TYPE_CHECKING:
    from watermark.base_model import FrozenLM
    from watermark.pipeline import WatermarkedModel

KEYS = 10
"""Issuer keys that take turns, so that one lucky or unlucky key does not decide the result."""

Progress = Callable[[str, float, float], None]
"""(stage, done, total)"""


@dataclass(frozen=True)
class Job:
    """One text to write."""

    length: int
    number: int
    """Of the prompt."""
    marked: bool


@dataclass(frozen=True)
class WrittenText:
    length: int
    number: int
    marked: bool
    source: str
    prompt: str
    text: str
    token_ids: tuple[int, ...]
    marked_tokens: int | None
    seed: int

    @property
    def job(self) -> Job:
        return Job(self.length, self.number, self.marked)


def evaluation_keys(seed: int) -> list[IssuerKey]:
    """Keys for one evaluation. They follow from the seed, so they protect nothing and are never stored."""
    return [IssuerKey(f"evaluation-{i}", hashlib.sha256(f"countersign evaluation key {seed} {i}".encode()).digest()) for i in range(KEYS)]


def text_seed(seed: int, number: int) -> int:
    """The sampling seed of one prompt: the same marked and unmarked, and at every length."""
    return int.from_bytes(hashlib.sha256(f"countersign evaluation text {seed} {number}".encode()).digest()[:6], "big")


class WorkFolder:
    """JSON lines beside the report, bound to the settings that produced them."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Raises InvalidInput when the folder holds texts made with other settings."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path, current = folder / "settings.json", json.loads(json.dumps(settings))
        if path.exists():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            differing = sorted(name for name in {*earlier, *current} if earlier.get(name) != current.get(name))
            if differing:
                raise InvalidInput(
                    f"{folder} holds texts of an earlier run with other settings ({', '.join(differing)}). "
                    "Delete the folder to start again, or choose another --out."
                )
        else:
            path.write_text(json.dumps(current, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def read(self, name: str) -> list[dict[str, Any]]:
        """All whole records of a file; a last line broken off by an interruption is cut away."""
        path = self.folder / name
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        return [json.loads(line) for line in whole.splitlines()]

    def append(self, name: str, records: Iterable[dict[str, Any]]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as stream:
            stream.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))

    def replace(self, name: str, records: Iterable[dict[str, Any]]) -> None:
        (self.folder / name).unlink(missing_ok=True)
        self.append(name, records)


def write_texts(
    model: WatermarkedModel,
    prompts: Sequence[Prompt],
    lengths: Sequence[int],
    work: WorkFolder,
    *,
    seed: int,
    temperature: float,
    top_k: int,
    batch_size: int,
    progress: Progress | None = None,
) -> list[WrittenText]:
    """Every prompt continued by exactly `length` tokens, for every length, marked and unmarked; cached ones included.

    Only the longest are written: a text of n tokens is the first n tokens of a longer one, token for token.
    """
    keys = evaluation_keys(seed)
    longest = max(lengths)
    jobs = [Job(longest, number, marked) for number in range(len(prompts)) for marked in (True, False)]
    done = {text.job: text for text in (_from_record(record) for record in work.read("texts.jsonl"))}
    missing = [job for job in jobs if job not in done]
    for first in range(0, len(missing), batch_size):
        batch = missing[first : first + batch_size]
        count = sum(job in done for job in jobs)

        def on_step(step: int, steps: int, count: int = count, size: int = len(batch)) -> None:
            if progress:
                progress("generating", count + size * step / max(steps, 1), len(jobs))

        requests = [_request(job, prompts[job.number], keys, seed, temperature, top_k) for job in batch]
        results = model.generate(requests, on_step=on_step)
        texts = [
            WrittenText(
                length=longest,
                number=job.number,
                marked=job.marked,
                source=prompts[job.number].source,
                prompt=prompts[job.number].text,
                text=result.text,
                token_ids=tuple(result.token_ids),
                marked_tokens=result.marking.marked_tokens,
                seed=result.seed,
            )
            for job, result in zip(batch, results, strict=True)
        ]
        work.append("texts.jsonl", map(asdict, texts))
        done.update((text.job, text) for text in texts)
    if progress:
        progress("generating", len(jobs), len(jobs))
    return [beginning(model.lm, done[job], length) for length in lengths for job in jobs]


def beginning(lm: FrozenLM, text: WrittenText, length: int) -> WrittenText:
    """The first `length` tokens of a text; how many of them are marked is known of whole texts only."""
    if length == text.length:
        return text
    ids = text.token_ids[:length]
    return replace(text, length=length, text=lm.decode(list(ids)), token_ids=ids, marked_tokens=None)


def _request(job: Job, prompt: Prompt, keys: Sequence[IssuerKey], seed: int, temperature: float, top_k: int) -> GenerationRequest:
    sampling = SamplingSettings(
        max_new_tokens=job.length,
        min_new_tokens=job.length,
        temperature=temperature,
        top_k=top_k,
        seed=text_seed(seed, job.number),
    )
    return GenerationRequest(prompt.text, sampling, keys[job.number % len(keys)] if job.marked else None)


def _from_record(record: dict[str, Any]) -> WrittenText:
    return WrittenText(**{**record, "token_ids": tuple(record["token_ids"])})
