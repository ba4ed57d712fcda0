"""`countersign calibrate`: measure a checkpoint's null and power, and put them beside its weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from watermark.cli import common
from watermark.cli.common import BackendOption, BaseModelOption, CheckpointOption, DeviceOption, JsonOption
from watermark.cli.stages import stage_bars
from watermark.errors import InvalidInput


def register(app: typer.Typer) -> None:
    app.command("calibrate")(calibrate)


def calibrate(
    texts: Annotated[
        list[str],
        typer.Option(
            metavar="KIND:COUNT=FILE",
            help='COUNT unmarked texts of one kind, from a file of JSON lines {"text"} or a folder of them; repeat for other kinds. '
            "Passages of the first are also continued by the model.",
        ),
    ],
    work: Annotated[Path, typer.Option(help="Folder for what can be used again when the command is broken off.")],
    written: Annotated[int, typer.Option(help="Texts that the model writes with a mark, and as many without.")] = 160,
    seed: Annotated[int, typer.Option(min=0, help="Which texts are drawn, and what is written.")] = 0,
    base_model: BaseModelOption = None,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Read unmarked texts and write some of the model's own, so that p-values of a given key hold and lengths have a meaning."""
    from models.registry import checkpoint_folder
    from watermark.calibration.build import CalibrationSettings, Kind, calibrate
    from watermark.checkpoint_folder import weights_digest

    kinds = [Kind(*_kind(item)) for item in texts]
    settings = CalibrationSettings(written, seed)
    folder = checkpoint_folder(base_model, checkpoint)
    # What is there may be damaged or another pair's: it says so itself that this command makes it again.
    model = common.load_model(base_model, checkpoint, device, backend, calibrated=False)
    with stage_bars() as advance:
        calibration = calibrate(model, kinds, work, settings, advance)
    calibration.save(folder, weights_digest(folder))
    if as_json:
        common.print_json(calibration.made)
    else:
        common.note(f"Calibration written beside the weights in {folder}.")


def _kind(item: str) -> tuple[str, Path, int]:
    match = re.fullmatch(r"(\w+):(\d+)=(.+)", item, re.ASCII)
    if not match or int(match[2]) < 1:
        raise InvalidInput(f"--texts takes KIND:COUNT=FILE, for example prose:600=texts.jsonl; got {item!r}.")
    return match[1], Path(match[3]), int(match[2])
