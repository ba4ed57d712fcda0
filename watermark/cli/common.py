"""What several commands share: options, the model, the key ring, and how results are printed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.registry import Backend
from watermark.bulk.jobs import ModelChoice
from watermark.bulk.lines import is_text
from watermark.cli.errors import FAILED
from watermark.codebook.keys import IssuerKey, KeyRing
from watermark.errors import InvalidInput, UnknownIssuer
from watermark.folders import key_folder

if TYPE_CHECKING:
    from watermark.bulk.work import Summary
    from watermark.pipeline import WatermarkedModel

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, for programs.")]
KeysOption = Annotated[
    Path | None,
    typer.Option("--keys", metavar="DIR", help="Folder of the key ring. Change it to keep key rings apart. [default: your data folder]"),
]
BaseModelOption = Annotated[
    str | None,
    typer.Option(
        "--base-model", metavar="NAME", help="Language model: a registered name, a folder or a Hugging Face id. [default: gemma3-270m]"
    ),
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        metavar="NAME",
        help="Watermark: a shipped name or a folder, e.g. one that you trained. [default: the base model's own]",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, or cuda where there is a GPU.")]
BackendOption = Annotated[
    Backend,
    typer.Option("--backend", help="openvino: fast, on CPUs. torch: as transformers runs it. auto: openvino on the CPU where it can."),
]
BatchSizeOption = Annotated[
    int,
    typer.Option(
        "--batch-size",
        min=1,
        help="Lines at a time. Lower it when memory is short; of the results, only the last digits of p-values may change.",
    ),
]


def chosen_model(base_model: str | None, checkpoint: str | None, device: str, backend: Backend) -> ModelChoice:
    """Base model and checkpoint by name, made ready to be loaded. Raises BaseModelError and CheckpointError."""
    from models.registry import DEFAULT_BASE_MODEL, checkpoint_folder

    name = base_model or DEFAULT_BASE_MODEL
    choice = ModelChoice(name, checkpoint_folder(name, checkpoint), device, backend)  # a wrong name costs no model load
    choice.prepare()  # the first time it takes minutes and shows its own progress
    return choice


def load_model(
    base_model: str | None, checkpoint: str | None, device: str, backend: Backend, *, calibrated: bool = True
) -> WatermarkedModel:
    """Base model and checkpoint, ready to use. Raises BaseModelError and CheckpointError."""
    choice = chosen_model(base_model, checkpoint, device, backend)
    with waiting("loading the model"):
        return choice.load(calibrated=calibrated)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner on a terminal; silence elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def key_ring(folder: Path | None) -> KeyRing:
    return KeyRing(folder or key_folder())


def chosen_key(ring: KeyRing, issuer: str | None) -> IssuerKey:
    """The key named, or the only one there is. Raises UnknownIssuer, KeyRingError, InvalidInput."""
    if issuer is not None:
        return _load(ring, issuer)
    names = ring.names()
    if len(names) == 1:
        return ring.load(names[0])
    if names:
        raise InvalidInput(f"Several keys are in {ring.folder}: say which with --issuer ({', '.join(names)}).")
    raise InvalidInput(_no_keys(ring))


def chosen_keys(ring: KeyRing, issuers: list[str] | None) -> list[IssuerKey]:
    """The keys named, in that order and once each, or all there are. Raises UnknownIssuer, KeyRingError, InvalidInput."""
    keys = [_load(ring, name) for name in dict.fromkeys(issuers)] if issuers else ring.all()
    if not keys:
        raise InvalidInput(_no_keys(ring))
    return keys


def _load(ring: KeyRing, name: str) -> IssuerKey:
    try:
        return ring.load(name)
    except UnknownIssuer as error:
        known = ", ".join(ring.names()) or "none"
        raise UnknownIssuer(f"{error} Looked in {ring.folder} (known: {known}). Create it with: countersign keys create {name}") from None


def _no_keys(ring: KeyRing) -> str:
    return f"There are no keys in {ring.folder} yet. Create one with: countersign keys create NAME"


def read_text(argument: str | None, what: str) -> str:
    """The argument itself, or stdin for "-". Raises InvalidInput."""
    if argument is None:
        raise InvalidInput(f"Give {what} as an argument, - to read it from stdin, or a file of JSON lines.")
    text = argument
    if argument == "-":
        try:
            text = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"stdin is not UTF-8 (byte {error.start}).") from None
    if not is_text(text):
        raise InvalidInput(f"The {what} is not valid UTF-8 text.")
    return text


def batch_files(argument: str | None, lines: Path | None, out: Path | None, option: str) -> tuple[Path, Path] | None:
    """(input, output) of a batch run, or None for a single text. Raises InvalidInput when the options do not go together."""
    if lines is None:
        if out is not None:
            raise InvalidInput(f"--out goes with {option}.")
        return None
    if argument is not None:
        raise InvalidInput(f"Give a text or {option}, not both.")
    if out is None:
        raise InvalidInput(f"{option} needs --out for the results.")
    if out.absolute() == lines.absolute() or (out.exists() and lines.exists() and out.samefile(lines)):
        raise InvalidInput(f"--out and {option} are the same file.")
    return lines, out


def finish_batch(summary: Summary, as_json: bool) -> None:
    """Say what a batch run did; ends the command with status 1 when lines were bad."""
    if as_json:
        print_json(summary)
    else:
        note(f"{summary.lines} lines in {summary.out}, {summary.errors} of them errors")
    if summary.errors:
        raise typer.Exit(FAILED)


def plain(value: Any) -> Any:
    """A result as plain JSON values."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def print_json(value: Any) -> None:
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def note(line: str) -> None:
    """For people, beside the result: stderr."""
    print(line, file=sys.stderr)
