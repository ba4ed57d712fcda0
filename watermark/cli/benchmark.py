"""`countersign benchmark`: checkpoints and the watermarks of other libraries, side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from watermark.benchmark.settings import PEERS, PRESETS, RATES, BenchmarkSettings, Preset, Scale
from watermark.cli import common
from watermark.cli.common import BackendOption, BaseModelOption, DeviceOption, JsonOption
from watermark.cli.evaluate import folder_digest, whole_numbers
from watermark.cli.stages import stage_bars
from watermark.errors import InvalidInput

if TYPE_CHECKING:
    from watermark.base_model import FrozenLM
    from watermark.benchmark.methods import Method

CHECKPOINTS_HELP = "A shipped name or a folder; repeat it. The first is held against the peers. [default: the base model's own]"


def register(app: typer.Typer) -> None:
    app.command("benchmark")(benchmark)


def benchmark(
    prompts: Annotated[list[Path], typer.Option(help='JSON lines (.gz too) of {"prompt", "human", "source"}; repeat to mix sets evenly.')],
    human: Annotated[
        Path, typer.Option(help='JSON lines of {"text"}: human texts on which thresholds are set. A rate of 0.1 % needs some thousands.')
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.json, report.md, plots, and what a run that is broken off goes on from.")],
    preset: Annotated[
        Preset, typer.Option(help="small: a quarter of an hour on two CPU cores. full: hours, for numbers to quote.")
    ] = "small",
    checkpoint: Annotated[list[str] | None, typer.Option(metavar="NAME", help=CHECKPOINTS_HELP)] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            help=f"Comma-separated, of {', '.join(PEERS)}; empty for none. gumbelmax and greenlist need the extra countersign[benchmark]. "
            "[default: the preset's]"
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="NAME", help="Independent model for perplexity: a folder or a Hugging Face id. None comes along.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Also write the report to this .md file, and its data and plots to the folder of its name.")
    ] = None,
    n: Annotated[int | None, typer.Option(help="Prompts. Raise it for narrower intervals. [default: the preset's]")] = None,
    human_texts: Annotated[int | None, typer.Option(help="Human texts per length. [default: the preset's]")] = None,
    lengths: Annotated[str | None, typer.Option(help="Comma-separated numbers of tokens. [default: the preset's]")] = None,
    attacks: Annotated[
        str | None, typer.Option(help="Comma-separated edits, as `countersign evaluate` knows them. [default: the preset's]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Change it to repeat the measurement on other prompts, keys and texts.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Texts written at once. Lower it when memory runs out.")] = 16,
    base_model: BaseModelOption = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write texts with every method, attack them, detect them at equal false-positive rates, and measure quality and time.

    Everything is kept in the folder: the same command goes on after an interruption, and checkpoints and peers may be added.
    """
    from models.registry import DEFAULT_BASE_MODEL, checkpoint_folder, load_base_model, load_torch_model
    from watermark.benchmark.ours import Ours
    from watermark.benchmark.page import publish
    from watermark.benchmark.run import run_benchmark
    from watermark.checkpoint import read_config
    from watermark.inference.torch_lm import TorchLM
    from watermark.pipeline import WatermarkedModel

    if page is not None and page.suffix != ".md":
        raise InvalidInput(f"--page must be a .md file; got {page.name!r}.")
    scale = _scale(PRESETS[preset], n, human_texts, lengths, attacks, peers)
    settings = BenchmarkSettings(tuple(prompts), human, out, preset, scale, seed=seed, batch_size=batch_size)
    name = base_model or DEFAULT_BASE_MODEL
    folders = [checkpoint_folder(name, each) for each in checkpoint or [None]]
    if len({folder.name for folder in folders}) < len(folders):
        raise InvalidInput(f"Two checkpoints have the same name: {', '.join(folder.name for folder in folders)}.")
    lm = load_base_model(name, device=device, backend=backend)
    judge_lm = lm if isinstance(lm, TorchLM) else load_torch_model(name)
    methods: list[Method] = []
    for folder in folders:
        # What acts inside the model needs it as transformers runs it; all else is written and read by the fast backend.
        model = WatermarkedModel.load(lm if read_config(folder).kind == "tournament" else judge_lm, folder)
        methods.append(Ours(model, folder_digest(folder), seed))
    methods += [_peers()[peer](lm) for peer in scale.peers]
    independent = (Path(judge).name if Path(judge).exists() else judge, load_torch_model(judge, device=device)) if judge else None
    with stage_bars() as advance:
        report = run_benchmark(
            methods,
            lm,
            settings,
            judge=judge_lm,
            independent=independent,
            # File names without their folders: where they lie is this machine's business, not the report's.
            command=shlex.join(["countersign", *(Path(word).name if "/" in word else word for word in sys.argv[1:])]),
            progress=advance,
        )
    if page is not None:
        publish(out, page)
    if as_json:
        common.print_json(report)
    else:
        _print(report, out)


def _scale(scale: Scale, n: int | None, human: int | None, lengths: str | None, attacks: str | None, peers: str | None) -> Scale:
    changes: dict[str, Any] = {}
    if n is not None:
        changes |= {"n": n, "quality": min(n, scale.quality), "payload": min(n, scale.payload)}
    if human is not None:
        changes["human"] = human
    if lengths is not None:
        changes["lengths"] = tuple(sorted(whole_numbers(lengths)))
    for name, words in (("attacks", attacks), ("peers", peers)):
        if words is not None:
            changes[name] = tuple(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    return replace(scale, **changes)


def _peers() -> dict[str, Callable[[FrozenLM], Method]]:
    from watermark.benchmark.kgw import kgw
    from watermark.benchmark.synthid import synthid
    from watermark.benchmark.textseal import textseal

    return {
        "kgw": kgw,
        "kgw-selfhash": lambda lm: kgw(lm, "selfhash"),
        "synthid": synthid,
        "gumbelmax": lambda lm: textseal(lm, "gumbelmax"),
        "greenlist": lambda lm: textseal(lm, "greenlist"),
    }


def _print(report: dict[str, Any], out: Path) -> None:
    from watermark.benchmark.comparison import marked_cells

    console = Console()
    strict, longest = RATES[-1], report["settings"]["lengths"][-1]
    table = Table("attack", *(method["title"] for method in report["methods"].values()), title=f"detected at {strict:g}, {longest} tokens")
    for attack in ("clean", *report["settings"]["attacks"]):
        cells = [marked_cells(report, name, strict)[attack, longest] for name in report["methods"]]
        table.add_row(attack, *(f"{cell['share']:.3f}" for cell in cells))
    console.print(table)
    console.print(f"Written: {out / 'report.md'}, report.json, detection.png, quality.png")
