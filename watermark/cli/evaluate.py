"""`countersign evaluate`: measure detection, false alarms and text quality of a checkpoint."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from watermark.cli import common
from watermark.cli.common import BackendOption, BaseModelOption, CheckpointOption, JsonOption
from watermark.cli.stages import stage_bars
from watermark.errors import InvalidInput
from watermark.evaluation.attacks import NAMES

ATTACKS = "delete-10,delete-30,substitute-10,substitute-30,lower-case,strip-punctuation,first-half,last-half,copy-paste-50"


def register(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate)


def evaluate(
    prompts: Annotated[list[Path], typer.Option(help='JSON lines (.gz too) of {"prompt", "human", "source"}; repeat to mix sets evenly.')],
    out: Annotated[Path, typer.Option(help="Report to write, a .json file; .png and a .work folder of texts go beside it.")],
    human: Annotated[
        Path | None, typer.Option(help='JSON lines of {"text", "source"}; give it when the prompts have few human continuations.')
    ] = None,
    attacks: Annotated[
        str,
        typer.Option(
            help=f"Comma-separated edits of marked text; empty for none. Known: {', '.join(NAMES)}, where N is 1 to 99 percent. "
            "synonyms needs the extra countersign[attacks], round-trip-spanish the program apertium, paraphrase --paraphraser."
        ),
    ] = ATTACKS,
    paraphraser: Annotated[
        str,
        typer.Option(help="For the attack paraphrase: a folder with an instruct model, or a command that reads a text and prints another."),
    ] = "",
    n: Annotated[int, typer.Option(help="Prompts. Lower it for a quick look, raise it for narrower intervals.")] = 300,
    lengths: Annotated[str, typer.Option(help="Comma-separated numbers of new tokens; every prompt is continued at each.")] = "50,100,200",
    seed: Annotated[int, typer.Option(help="Change it to repeat the measurement on other prompts, keys and texts.")] = 0,
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature. Lower it to see how much less a sharper model can carry.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option(help="Candidates per token.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Texts generated at once. Lower it when memory runs out.")] = 16,
    base_model: BaseModelOption = None,
    checkpoint: CheckpointOption = None,
    false_positive_rate: Annotated[float, typer.Option(help="Threshold that counts as detected.")] = 1e-3,
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is a GPU: much faster for long evaluations.")] = "cpu",
    backend: BackendOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write marked and unmarked texts, verify them clean and edited, and report shares with intervals and text quality.

    Texts are kept in the .work folder: an interrupted run continues, and scoring can be repeated with other attacks.
    """
    from models.registry import DEFAULT_BASE_MODEL, checkpoint_folder, load_base_model, load_torch_model
    from watermark.evaluation.run import EvaluationSettings, run_evaluation
    from watermark.inference.torch_lm import TorchLM
    from watermark.pipeline import WatermarkedModel

    settings = EvaluationSettings(
        prompts=tuple(prompts),
        out=out,
        human=human,
        attacks=tuple(name.strip() for name in attacks.split(",") if name.strip()),
        paraphraser=_command(paraphraser),
        n=n,
        lengths=whole_numbers(lengths),
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        batch_size=batch_size,
        false_positive_rate=false_positive_rate,
    )
    name = base_model or DEFAULT_BASE_MODEL
    folder = checkpoint_folder(name, checkpoint)
    model = WatermarkedModel.load(load_base_model(name, device=device, backend=backend, checkpoint=folder), folder)
    judge = model.lm if isinstance(model.lm, TorchLM) else load_torch_model(name)
    with stage_bars() as advance:
        report = run_evaluation(
            model,
            settings,
            judge=judge,
            checkpoint_digest=folder_digest(folder),
            # File names without their folders: where they lie is this machine's business, not the report's.
            command=shlex.join(["countersign", *(Path(word).name if "/" in word else word for word in sys.argv[1:])]),
            progress=advance,
        )
    if as_json:
        common.print_json(report)
    else:
        _print(report, out)


def whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError:
        raise InvalidInput(f"--lengths must be whole numbers with commas between them; got {text!r}.") from None


def _command(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidInput(f"--paraphraser is not a command that can be read ({error}): {text!r}.") from None


def folder_digest(folder: Path) -> str:
    """Weights and configuration of a checkpoint; its card and calibration may change without new texts."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")]):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _print(report: dict[str, Any], out: Path) -> None:
    console = Console()
    table = Table("tokens", "text", "attack", "n", "detected", "95 % interval", "median p")
    for cell in report["detection"]:
        low, high = cell["interval"]
        numbers = (str(cell["n"]), f"{cell['share']:.3f}", f"{low:.3f} … {high:.3f}", f"{cell['median_p']:.1e}")
        table.add_row(str(cell["length"]), cell["condition"], cell["attack"], *numbers)
    console.print(table)
    table = Table("tokens", "measure", "marked", "unmarked", "ratio or difference", "95 % interval")
    for cell in report["quality"]:
        for measure in ("perplexity", "repeated_trigrams", "distinct_2"):
            values = cell[measure]
            change = values["ratio"] if "ratio" in values else values["difference"]
            low, high = values["interval"]
            numbers = (f"{values['marked']:.4g}", f"{values['unmarked']:.4g}", f"{change:.4f}", f"{low:.4f} … {high:.4f}")
            table.add_row(str(cell["length"]), measure.replace("_", " "), *numbers)
    console.print(table)
    console.print(f"Written: {out}, {out.with_suffix('.png').name}, {out.with_suffix('.work').name}/")
