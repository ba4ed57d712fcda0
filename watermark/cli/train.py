"""`countersign train`: features once, then the pair; both go on where a broken-off run stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from watermark.cli.common import BaseModelOption, JsonOption, note, print_json
from watermark.cli.stages import stage_bars
from watermark.errors import InvalidInput
from watermark.training.profiles import PROFILES


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train")(train)


def train(
    corpus: Annotated[Path, typer.Option(help="Training text: a .jsonl(.gz) file, or a folder of them, with a 'text' per line.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, curves and the state to resume from.")],
    base_model: BaseModelOption = None,
    profile: Annotated[str, typer.Option(help=f"Recipe for a machine: {' or '.join(PROFILES)}. The options below override it.")] = "cpu",
    features: Annotated[Path | None, typer.Option(help="Folder of cached features; runs may share it. [default: OUT/features]")] = None,
    documents: Annotated[int | None, typer.Option(min=96, help="Human documents to learn from; 32 are held out.")] = None,
    sampled: Annotated[int | None, typer.Option(min=0, help="Further documents that the model continues itself.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    finished: Annotated[int | None, typer.Option(min=0, help="Marked texts to refine the extractor on; 0 leaves the stage out.")] = None,
    layers: Annotated[str | None, typer.Option(help="Hidden states that the queries read, e.g. 0,2,6. [default: by depth]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds weights, edits and batches: same seed, same checkpoint.")] = 0,
    code_salt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Seeds the token codes. A random text of your own, kept as secret as the checkpoint, makes them private."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a watermark pair for a base model. The same command again resumes an interrupted run."""
    # Heavy imports wait until the arguments have been read, so that --help is instant.
    from models.registry import DEFAULT_BASE_MODEL, load_torch_model
    from watermark.config import WatermarkConfig
    from watermark.training.run import run_training

    if profile not in PROFILES:
        raise InvalidInput(f"--profile must be {' or '.join(PROFILES)}; got {profile!r}.")
    chosen = {"documents": documents, "sampled": sampled, "steps": steps, "finished": finished}
    recipe = replace(PROFILES[profile], **{name: value for name, value in chosen.items() if value is not None})
    lm = load_torch_model(base_model or DEFAULT_BASE_MODEL, device=recipe.device)
    query_layers = _layers(layers, lm.layer_count)
    config = WatermarkConfig(query_layers=query_layers, hidden_size=lm.hidden_size)
    if code_salt is not None:
        config = config.model_copy(update={"code_salt": code_salt})
    with stage_bars() as advance:
        result = run_training(lm, config, corpus, out, features or out / "features", recipe, seed, advance)
    if as_json:
        print_json(result)
    else:
        note(f"Checkpoint in {out} after {sum(result['seconds'].values())} s. Curves: {out / 'curves.png'}")


def _layers(text: str | None, depth: int) -> tuple[int, ...]:
    """The layers asked for; by default the embedding, a ninth and a third of the depth, as in the default model (0, 2, 6 of 18)."""
    if text is None:
        return tuple(sorted({0, max(1, round(depth / 9)), max(1, round(depth / 3))}))
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidInput(f"--layers takes layer numbers with commas between, e.g. 0,2,6; got {text!r}.") from None
    if list(found) != sorted(set(found)) or found[0] < 0 or found[-1] < 1:
        raise InvalidInput(f"--layers must rise, start at 0 or above and end at 1 or above; got {text!r}.")
    if found[-1] >= depth:
        raise InvalidInput(f"--layers: the base model has {depth} layers; queries read layers below the last.")
    return found
