"""`countersign receipt verify`: needs the receipt, a public key and no network."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from watermark.cli.common import JsonOption, print_json
from watermark.cli.errors import FAILED
from watermark.errors import InvalidInput


def register(app: typer.Typer) -> None:
    """Add the command to `app`, which reports the errors."""
    group = typer.Typer(help="Verify signed receipts offline.", no_args_is_help=True)
    group.command("verify")(verify)
    app.add_typer(group, name="receipt")


def verify(
    receipt: Annotated[Path, typer.Argument(metavar="RECEIPT.json", help="The signed receipt, as the service gave it.")],
    public_key: Annotated[str, typer.Option(metavar="FILE|HEX", help="The issuing service's public key: a file, or 64 hex digits.")],
    text: Annotated[Path | None, typer.Option(metavar="FILE|-", help="The text that the receipt should be about; - is stdin.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a receipt offline. Exit status: 0 valid, 1 not valid, 2 an argument cannot be used."""
    from service.receipts import verification  # when the command runs, so that help is quick

    document = _read(receipt, "receipt")
    key_file = Path(public_key)
    key = verification.parse_public_key(_read_text(key_file, "public key") if key_file.is_file() else public_key)
    check = verification.verify_receipt(document, key, None if text is None else _read_text(text, "text"))
    if as_json:
        print_json({**dataclasses.asdict(check), "receipt": check.receipt and check.receipt.model_dump()})
    else:
        print(f"{'valid' if check.valid else 'not valid'}: {check.reason}")
        for name, value in (check.receipt.model_dump() if check.receipt else {}).items():
            print(f"  {name.replace('_', ' ')}: {'none' if value is None else value}")
    if not check.valid:
        raise typer.Exit(FAILED)


def _read(path: Path, what: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"The {what} {path} cannot be read: {error.strerror}.") from None


def _read_text(path: Path, what: str) -> str:
    try:
        return _read(path, what).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The {what} {path} is not UTF-8 (byte {error.start}).") from None
