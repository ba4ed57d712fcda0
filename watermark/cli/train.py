"""`countersign train`: features once, then the pair; both go on where a broken-off run stopped."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from watermark.cli.common import BaseModelOption, JsonOption, note, print_json
from watermark.errors import InvalidInput

Advance = Callable[[int, int, str], None]
"""(done, total, words shown beside the bar)."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train")(train)


def train(
    corpus: Annotated[Path, typer.Option(help="Training text: a .jsonl(.gz) file, or a folder of them, with a 'text' per line.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, curves and the state to resume from.")],
    base_model: BaseModelOption = None,
    features: Annotated[Path | None, typer.Option(help="Folder of cached features; runs may share it. [default: OUT/features]")] = None,
    documents: Annotated[
        int, typer.Option(min=64, help="Documents to learn from: more take longer to prepare and generalise better.")
    ] = 512,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 2400,
    texts: Annotated[int, typer.Option(min=1, help="Texts per step. Raise it on a GPU.")] = 8,
    rounds: Annotated[int, typer.Option(help="Tournament rounds: more carry more evidence per token.")] = 32,
    slots: Annotated[int, typer.Option(help="Slots per round.")] = 32,
    layers: Annotated[str, typer.Option(help="Hidden states that the queries read, e.g. 0,2,6.")] = "0,2,6",
    rate: Annotated[float, typer.Option("--learning-rate", help="Peak learning rate.")] = 2e-4,
    seed: Annotated[int, typer.Option(min=0, help="Seeds weights, edits and batches: same seed, same checkpoint.")] = 0,
    min_tokens: Annotated[int, typer.Option(min=0, help="Stored in the checkpoint: below this length a missing mark means nothing.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Train a watermark pair for a base model. The same command again resumes an interrupted run."""
    # Heavy imports wait until the arguments have been read, so that --help is instant.
    from models.registry import DEFAULT_BASE_MODEL, load_base_model
    from watermark.config import WatermarkConfig
    from watermark.training.dataset import FeatureSet
    from watermark.training.features import FeatureSpec, compute_features
    from watermark.training.trainer import Progress as Step
    from watermark.training.trainer import Trainer, TrainingSettings

    query_layers = _layers(layers)
    spec = FeatureSpec(documents=documents, query_layers=query_layers, seed=seed)
    settings = TrainingSettings(steps=steps, texts=texts, learning_rate=rate, seed=seed)
    started = time.monotonic()
    lm = load_base_model(base_model or DEFAULT_BASE_MODEL, device=device)
    if query_layers[-1] >= lm.layer_count:
        raise InvalidInput(f"--layers: {lm.name!r} has {lm.layer_count} layers; queries read layers below the last.")
    config = WatermarkConfig(rounds=rounds, slots=slots, query_layers=query_layers, hidden_size=lm.hidden_size, min_tokens=min_tokens)
    with _bar("features") as advance:
        paths = compute_features(lm, corpus, features or out / "features", spec, lambda done, total: advance(done, total, ""))
    prepared = time.monotonic()
    trainer = Trainer(lm, config, settings, FeatureSet(paths), out)
    latest: dict[str, float] = {}
    with _bar("training") as advance:

        def on_step(step: Step) -> None:
            latest.update(step.figures)
            advance(step.step, step.steps, f"z {latest['z_promptless']:.2f}, edited {latest['z_edited']:.2f}" if latest else "")

        trainer.run(on_step)
    seconds = {"features": round(prepared - started), "training": round(time.monotonic() - prepared)}
    result = {"checkpoint": str(out), "steps": steps, "seconds": seconds, "figures": latest}
    if as_json:
        print_json(result)
    else:
        note(f"Checkpoint in {out} after {sum(seconds.values())} s. Curves: {out / 'curves.png'}")


def _layers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidInput(f"--layers takes layer numbers with commas between, e.g. 0,2,6; got {text!r}.") from None
    if list(found) != sorted(set(found)) or found[0] < 0 or found[-1] < 1:
        raise InvalidInput(f"--layers must rise, start at 0 or above and end at 1 or above; got {text!r}.")
    return found


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Advance]:
    """A bar on a terminal, a line every half minute elsewhere."""
    if not sys.stderr.isatty():
        last = time.monotonic() - 30

        def plain(done: int, total: int, words: str) -> None:
            nonlocal last
            if time.monotonic() - last >= 30 or done == total:
                last = time.monotonic()
                note(f"{title}: {done} of {total} {words}".rstrip())

        yield plain
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, words="")
        yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)
