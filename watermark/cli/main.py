"""The `countersign` command. Commands of other packages join through the entry-point group `countersign.commands`."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Annotated

import typer

from watermark.cli.errors import ErrorReportingGroup, debugging

COMMANDS = ("generate", "verify", "keys", "train", "calibrate", "evaluate", "benchmark")
"""Modules of this package, each with a `register(app)`. They import torch only when a command runs, so that help is quick."""


def build_app() -> typer.Typer:
    app = typer.Typer(
        cls=ErrorReportingGroup,
        help="Mark text while a language model writes it, and say later who issued it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for name in COMMANDS:
        importlib.import_module(f"watermark.cli.{name}").register(app)
    for point in sorted(entry_points(group="countersign.commands")):
        try:
            register = point.load()
        except ImportError as error:  # one broken extension must not take the others with it
            if debugging():
                raise
            print(f"note: the command {point.name!r} is not available: {error}", file=sys.stderr)
        else:
            register(app)
    return app


def _version(shown: bool) -> None:
    if shown:
        try:
            print(version("countersign"))
        except PackageNotFoundError:
            print("countersign is not installed; this is a source tree")
        raise typer.Exit


def _options(
    show_version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    pass


app = build_app()


def main() -> None:
    app(prog_name="countersign")


if __name__ == "__main__":
    main()
