"""`countersign train`: features once, then the pair; both go on where a broken-off run stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from watermark.cli.common import BaseModelOption, JsonOption, note, print_json
from watermark.cli.stages import stage_bars
from watermark.errors import InvalidInput
from watermark.training.profiles import PROFILES, Kind


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train")(train)


def train(
    corpus: Annotated[Path, typer.Option(help="Training text: a .jsonl(.gz) file, or a folder of them, with a 'text' per line.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, curves and the state to resume from.")],
    base_model: BaseModelOption = None,
    kind: Annotated[
        Kind,
        typer.Option(
            help="tournament reweights the next token without bias. gated and substituted change the model's own forward pass, "
            "as in arXiv 2401.06829: their marks cost quality, and docs/evidence.md says what they buy."
        ),
    ] = "tournament",
    profile: Annotated[
        str, typer.Option(help=f"Recipe for a machine: {' or '.join(PROFILES['tournament'])}. The options below override it.")
    ] = "cpu",
    features: Annotated[Path | None, typer.Option(help="Folder of cached features; runs may share it. [default: OUT/features]")] = None,
    documents: Annotated[int | None, typer.Option(min=96, help="Human documents to learn from; 32 are held out.")] = None,
    sampled: Annotated[int | None, typer.Option(min=0, help="Further documents that the model continues itself.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    finished: Annotated[int | None, typer.Option(min=0, help="Marked texts to refine the extractor on; 0 leaves the stage out.")] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="tournament: hidden states that the queries read, e.g. 0,1,3. gated: decoder layers that a block follows, e.g. 17,18. "
            "substituted: those replaced. [default: by depth]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds weights, edits and batches: same seed, same checkpoint.")] = 0,
    code_salt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Seeds the token codes. A random text of your own, kept as secret as the checkpoint, makes them private."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a watermark pair for a base model. The same command again resumes an interrupted run.

    Under torchrun or accelerate launch every process works on texts of its own, so that a step of N processes has N times the texts;
    the folders are on a disk that all machines share.
    """
    # Heavy imports wait until the arguments have been read, so that --help is instant.
    from models.registry import DEFAULT_BASE_MODEL, load_torch_model
    from watermark.config import ResidualConfig, WatermarkConfig
    from watermark.training.processes import join
    from watermark.training.run import run_training

    if profile not in PROFILES[kind]:
        raise InvalidInput(f"--profile must be {' or '.join(PROFILES[kind])}; got {profile!r}.")
    if finished and kind != "tournament":
        raise InvalidInput("--finished goes with --kind tournament; the other kinds have no such stage.")
    if code_salt is not None and kind != "tournament":
        raise InvalidInput("--code-salt goes with --kind tournament; the other kinds have no token codes.")
    chosen = {"documents": documents, "sampled": sampled, "steps": steps, "finished": finished}
    recipe = replace(PROFILES[kind][profile], **{name: value for name, value in chosen.items() if value is not None})
    processes = join(recipe.device)
    lm = load_torch_model(base_model or DEFAULT_BASE_MODEL, device=processes.device(recipe.device))
    if kind == "tournament":
        config = WatermarkConfig(query_layers=_layers(layers, lm.layer_count), hidden_size=lm.hidden_size)
        if code_salt is not None:
            config = config.model_copy(update={"code_salt": code_salt})
    else:
        config = ResidualConfig(kind=kind, layers=_marked_layers(kind, layers, lm.layer_count), hidden_size=lm.hidden_size)
    with stage_bars(shown=processes.main) as advance:
        result = run_training(lm, config, corpus, out, features or out / "features", recipe, seed, advance, processes)
    if result is None:
        return
    if as_json:
        print_json(result)
    else:
        note(f"Checkpoint in {out} after {sum(result['seconds'].values())} s. Curves: {out / 'curves.png'}")


def _layers(text: str | None, depth: int) -> tuple[int, ...]:
    """The layers asked for; by default the embedding, an eighteenth and a sixth of the depth, as in the default model (0, 1, 3 of 18)."""
    if text is None:
        return tuple(sorted({0, max(1, round(depth / 18)), max(1, round(depth / 6))}))
    found = _numbers(text, "0,1,3")
    if list(found) != sorted(set(found)) or found[0] < 0 or found[-1] < 1:
        raise InvalidInput(f"--layers must rise, start at 0 or above and end at 1 or above; got {text!r}.")
    if found[-1] >= depth:
        raise InvalidInput(f"--layers: the base model has {depth} layers; queries read layers below the last.")
    return found


def _marked_layers(kind: Kind, text: str | None, depth: int) -> tuple[int, ...]:
    """The layers asked for; by default the last two for gated blocks, and the last to be replaced: its attention is missed least."""
    if text is None:
        return (depth - 1, depth) if kind == "gated" else (depth,)
    found = _numbers(text, "17,18")
    if list(found) != sorted(set(found)) or not 1 <= found[0] <= found[-1] <= depth:
        raise InvalidInput(f"--layers must rise from 1 or above to at most {depth}, the layers of the base model; got {text!r}.")
    if kind == "gated" and found[0] == depth:
        raise InvalidInput("--layers: the first gated block must be below the last layer.")
    return found


def _numbers(text: str, example: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidInput(f"--layers takes layer numbers with commas between, e.g. {example}; got {text!r}.") from None
