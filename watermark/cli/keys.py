"""`countersign keys`: create issuer keys and list them. Secrets are written to their files and shown nowhere."""

from __future__ import annotations

from typing import Annotated

import typer

from watermark.cli.common import JsonOption, KeysOption, key_ring, print_json
from watermark.cli.errors import FAILED
from watermark.codebook.keys import MAX_PAYLOAD_BITS
from watermark.errors import CountersignError


def register(app: typer.Typer) -> None:
    keys = typer.Typer(help="Create and list issuer keys.", no_args_is_help=True)
    keys.command("create")(create)
    keys.command("list")(list_keys)
    app.add_typer(keys, name="keys")


def create(
    name: Annotated[str, typer.Argument(help="The issuer: lower-case letters, digits, '.', '_', '-'. Verification reports it.")],
    payload_bits: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_PAYLOAD_BITS,
            help="Bits of a message beside the name. Each doubles what a verifier has to try, so texts must be a little longer.",
        ),
    ] = 0,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create the key of an issuer. An existing one is never replaced."""
    ring = key_ring(keys)
    key = ring.create(name, payload_bits)
    path = str(ring.path(name))
    if as_json:
        print_json({"name": key.name, "payload_bits": key.payload_bits, "created": key.created, "path": path})
    else:
        print(f"Created key {key.name!r} ({key.payload_bits} payload bits) in {path}")
        print("Back it up and keep it secret: whoever has it can mark texts in this name, and without it marks cannot be read.")


def list_keys(keys: KeysOption = None, as_json: JsonOption = False) -> None:
    """List the keys by name, without their secrets. A key that cannot be read is listed with the reason."""
    ring = key_ring(keys)
    rows = []
    for name in ring.names():
        try:
            key = ring.load(name)
            rows.append({"name": name, "payload_bits": key.payload_bits, "created": key.created, "error": None})
        except CountersignError as error:
            rows.append({"name": name, "payload_bits": None, "created": None, "error": str(error)})
    if as_json:
        print_json(rows)
    elif not rows:
        print(f"No keys in {ring.folder}. Create one with: countersign keys create NAME")
    else:
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            about = f"error: {row['error']}" if row["error"] else f"{row['payload_bits']:>2} payload bits  created {row['created']}"
            print(f"{row['name']:<{width}}  {about}")
    if any(row["error"] for row in rows):
        raise typer.Exit(FAILED)
