"""`countersign keys`: create issuer keys, check and list them. Secrets are written to their files and shown nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from watermark.calibration.key_check import KeyCheck
from watermark.cli.common import BaseModelOption, CheckpointOption, JsonOption, KeysOption, key_ring, print_json
from watermark.cli.errors import FAILED
from watermark.codebook.keys import MAX_PAYLOAD_BITS
from watermark.errors import CheckpointError, CountersignError


def register(app: typer.Typer) -> None:
    keys = typer.Typer(help="Create, check and list issuer keys.", no_args_is_help=True)
    keys.command("create")(create)
    keys.command("check")(check)
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
    base_model: BaseModelOption = None,
    checkpoint: CheckpointOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create the key of an issuer. An existing one is never replaced.

    The checkpoint's calibration says whether the p-values of a secret hold on unmarked texts; one that fails is drawn again.
    """
    ring = key_ring(keys)
    path = str(ring.path(name))  # a bad name ends here, before anything is read
    _, key_check = _key_check(base_model, checkpoint)
    key, draws = key_check.create(ring, name, payload_bits)
    if as_json:
        about = {"name": key.name, "payload_bits": key.payload_bits, "created": key.created, "path": path}
        print_json({**about, "checked": key_check.texts > 0, "draws": draws})
    else:
        refused = f"; {draws - 1} of {draws} secrets drawn failed and were thrown away" if draws > 1 else ""
        print(f"Created key {key.name!r} ({key.payload_bits} payload bits) in {path}")
        print(f"{key_check.words.capitalize()}{refused}.")
        print("Back it up and keep it secret: whoever has it can mark texts in this name, and without it marks cannot be read.")


def check(
    name: Annotated[str, typer.Argument(help="The issuer whose key is checked.")],
    base_model: BaseModelOption = None,
    checkpoint: CheckpointOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a key against a checkpoint's calibration. The exit status is 1 when unmarked texts score too high with it."""
    key = key_ring(keys).load(name)
    folder, key_check = _key_check(base_model, checkpoint)
    if key_check.calibration is None:
        raise CheckpointError(f"Checkpoint {folder.name} has no calibration to check a key against. Make one with: countersign calibrate")
    health = key_check.calibration.health(key, key_check.nonce_bits)
    if as_json:
        about = {"name": name, "ok": health.ok, "distance": health.distance, "length": health.length, "texts": key_check.texts}
        print_json(about)
    else:
        at = f"at {health.length} tokens its p-values are {health.distance:.2f} of the allowed distance from uniform"
        print(f"Key {name!r} is {'sound' if health.ok else 'not sound'} ({key_check.words}): {at}.")
        if not health.ok:
            print("Unmarked texts are taken for its issuer's more often than the threshold says. Create another key for new texts.")
    if not health.ok:
        raise typer.Exit(FAILED)


def _key_check(base_model: str | None, checkpoint: str | None) -> tuple[Path, KeyCheck]:
    from models.registry import checkpoint_folder

    folder = checkpoint_folder(base_model, checkpoint)
    return folder, KeyCheck.of(folder)


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
