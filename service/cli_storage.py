"""Commands on the service's storage: issuers, API keys, and the database with its master key and the key that signs receipts.

They use the database and the master key that the service's settings name (COUNTERSIGN_…).
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watermark.cli.common import BaseModelOption, CheckpointOption, JsonOption, print_json
from watermark.codebook.keys import MAX_PAYLOAD_BITS, IssuerKey, KeyRing
from watermark.errors import InvalidInput

if TYPE_CHECKING:
    from service.storage.api_keys import ApiKeyRecord
    from service.storage.audit import AuditEntry
    from service.storage.issuers import IssuerRecord
    from service.storage.open import Storage

NameArgument = Annotated[str, typer.Argument(help="Lower-case letters, digits, '.', '_', '-'.")]
PayloadBitsOption = Annotated[
    int | None,
    typer.Option(min=0, max=MAX_PAYLOAD_BITS, help="Bits of a message in each mark. [default: 0, or as before when rotating]"),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, which reports the errors."""
    groups: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
        "issuers": (
            "Create, list, rotate, retire and import the service's issuers.",
            {
                "create": create_issuer,
                "list": list_issuers,
                "rotate": rotate_issuer,
                "retire": retire_issuer,
                "import": import_issuers,
            },
        ),
        "api-keys": (
            "Create, list and revoke API keys of the service.",
            {"create": create_api_key, "list": list_api_keys, "revoke": revoke_api_key},
        ),
        "database": (
            "Upgrade the service's database, and exchange its keys.",
            {"upgrade": upgrade, "reencrypt": reencrypt, "new-signing-key": new_signing_key},
        ),
    }
    for name, (help_text, commands) in groups.items():
        group = typer.Typer(help=help_text, no_args_is_help=True)
        for command, function in commands.items():
            group.command(command)(function)
        app.add_typer(group, name=name)


# ---- issuers --------------------------------------------------------------------------------------------------------


def create_issuer(
    name: NameArgument,
    payload_bits: PayloadBitsOption = None,
    base_model: BaseModelOption = None,
    checkpoint: CheckpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create an issuer with a fresh key, checked against the checkpoint's calibration."""
    sound, checked = _soundness(base_model, checkpoint)
    with _storage() as storage:
        record = storage.issuers.create(name, payload_bits or 0, sound, _audit("issuer.create"))
    _show_issuer(record, f"Created issuer {name!r} ({checked})", as_json)


def list_issuers(as_json: JsonOption = False) -> None:
    """List the issuers, retired ones too."""
    with _storage() as storage:
        records = storage.issuers.list()
    if as_json:
        print_json([_issuer(record) for record in records])
    elif not records:
        print("No issuers yet. Create one with: countersign issuers create NAME")
    else:
        _table(
            [
                (
                    record.name,
                    f"key version {record.key_version}",
                    f"{record.payload_bits} payload bits",
                    f"created {record.created:%Y-%m-%d}",
                    f"retired {record.retired_at:%Y-%m-%d}" if record.retired_at else "",
                )
                for record in records
            ]
        )


def rotate_issuer(
    name: NameArgument,
    payload_bits: PayloadBitsOption = None,
    base_model: BaseModelOption = None,
    checkpoint: CheckpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an issuer a fresh key. The old ones mark nothing any more and go on verifying."""
    sound, checked = _soundness(base_model, checkpoint)
    with _storage() as storage:
        record = storage.issuers.rotate(name, payload_bits, sound, _audit("issuer.rotate"))
    _show_issuer(record, f"Rotated the key of issuer {name!r} ({checked})", as_json)


def retire_issuer(name: NameArgument, as_json: JsonOption = False) -> None:
    """Mark nothing for an issuer any more. Its texts go on verifying; it cannot be undone."""
    with _storage() as storage:
        record = storage.issuers.retire(name, _audit("issuer.retire"))
    _show_issuer(record, f"Retired issuer {name!r}", as_json)


def import_issuers(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a key ring, as `countersign keys` makes it.")],
    as_json: JsonOption = False,
) -> None:
    """Import the keys of a key ring. Those that are stored already are passed over; another key of the same name is an error."""
    keys = KeyRing(folder).all()
    if not keys:
        raise InvalidInput(f"There are no keys in {folder}.")
    with _storage() as storage:
        imported = [key.name for key in storage.issuers.import_keys(keys, _audit("issuer.import"))]
    known = [key.name for key in keys if key.name not in imported]
    if as_json:
        print_json({"imported": imported, "known": known})
    else:
        print(f"Imported {', '.join(imported) or 'nothing'}" + (f"; known already: {', '.join(known)}" if known else ""))


# ---- API keys -------------------------------------------------------------------------------------------------------


def create_api_key(
    name: NameArgument,
    scope: Annotated[list[str], typer.Option(help="What it may be used for: generate, verify, metrics, admin (everything). Repeat it.")],
    expires_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, metavar="N", help="Days until it expires. [default: never]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create an API key and print its token, this once: only a hash of it is stored."""
    expires_at = None if expires_days is None else datetime.now(UTC) + timedelta(days=expires_days)
    with _storage() as storage:
        record, token = storage.api_keys.create(name, scope, expires_at, _audit("api_key.create"))
    if as_json:
        print_json({**_api_key(record), "token": token})
    else:
        print(token)
        print("This is the only time that it is shown. Send it as the header: Authorization: Bearer TOKEN", file=sys.stderr)


def list_api_keys(as_json: JsonOption = False) -> None:
    """List the API keys, without their tokens."""
    with _storage() as storage:
        records = storage.api_keys.list()
    if as_json:
        print_json([_api_key(record) for record in records])
    elif not records:
        print("No API keys yet. Create one with: countersign api-keys create NAME --scope verify")
    else:
        _table([(r.name, f"{r.prefix}…", ", ".join(r.scopes), f"created {r.created:%Y-%m-%d}", _state(r)) for r in records])


def revoke_api_key(name: NameArgument, as_json: JsonOption = False) -> None:
    """Revoke an API key for good. Running services refuse it within seconds."""
    with _storage() as storage:
        record = storage.api_keys.revoke(name, _audit("api_key.revoke"))
    if as_json:
        print_json(_api_key(record))
    else:
        print(f"Revoked API key {name!r}.")


# ---- database -------------------------------------------------------------------------------------------------------


def upgrade(as_json: JsonOption = False) -> None:
    """Create the database where there is none, and bring its tables to this release's form."""
    from service.settings import build_settings
    from service.storage.open import open_database

    database = open_database(build_settings())
    database.close()
    if as_json:
        print_json({"dialect": database.dialect})
    else:
        print("The database is up to date.")


def reencrypt(
    new_master_key_file: Annotated[
        Path, typer.Option(metavar="FILE", help="File with the new master key. A fresh one is made when there is no such file.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Encrypt all secrets with another master key, all or nothing. Stop the service first, and start it with the new key."""
    from service.settings import build_settings
    from service.storage import vault
    from service.storage.encryption import MasterKey
    from service.storage.open import master_key, open_database

    settings = build_settings()
    database = open_database(settings)
    with contextlib.closing(database):
        if not vault.is_encrypted(database):
            raise InvalidInput("Nothing is encrypted in this database yet.")
        old = master_key(settings, database)
        new = MasterKey.create_file(new_master_key_file)  # an existing file is read, not replaced
        values = vault.reencrypt(database, old, new, _audit("database.reencrypt"))
    path = new_master_key_file.absolute()
    if as_json:
        print_json({"values": values, "master_key_file": str(path)})
        return
    print(f"Encrypted {values} secrets with the key in {path}. Before you start the service again:")
    if settings.master_key is not None:
        print("    unset COUNTERSIGN_MASTER_KEY      # and take it out of where it is set: it holds the old key")
    print(f"    export COUNTERSIGN_MASTER_KEY_FILE={shlex.quote(str(path))}")
    print("Keep the old key for as long as you keep old backups.")


def new_signing_key(as_json: JsonOption = False) -> None:
    """Sign receipts with a fresh key, from the service's next start on. Receipts signed with the old one stay valid."""
    with _storage() as storage:
        key = storage.signer.rotate(_audit("signing_key.rotate"))
    if as_json:
        print_json({"key_id": key.key_id, "public_key": key.public_key})
    else:
        print(f"New signing key {key.key_id}:\n{key.pem}", end="")


# ---- what they share ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _storage() -> Iterator[Storage]:
    # Imported when a command runs, so that help is quick.
    from service.settings import build_settings
    from service.storage.open import open_storage

    with contextlib.closing(open_storage(build_settings())) as storage:
        yield storage


def _audit(action: str) -> AuditEntry:
    from service.storage.audit import AuditEntry

    return AuditEntry("command line", action)


def _soundness(base_model: str | None, checkpoint: str | None) -> tuple[Callable[[IssuerKey], bool], str]:
    """Whether unmarked texts score as they should with a key, by the checkpoint's calibration where it has one; and that in words."""
    from models.registry import checkpoint_folder
    from service.settings import build_settings
    from watermark.calibration.key_check import KeyCheck

    settings = build_settings(base_model=base_model, checkpoint=checkpoint)
    check = KeyCheck.of(checkpoint_folder(settings.base_model, settings.checkpoint))
    return check.sound, check.words


def _show_issuer(record: IssuerRecord, done: str, as_json: bool) -> None:
    if as_json:
        print_json(_issuer(record))
    else:
        print(f"{done}: key version {record.key_version}, {record.payload_bits} payload bits.")


def _issuer(record: IssuerRecord) -> dict[str, Any]:
    return _plain_times(dataclasses.asdict(record))


def _api_key(record: ApiKeyRecord) -> dict[str, Any]:
    return {**_plain_times(dataclasses.asdict(record)), "active": record.active}


def _plain_times(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, dict):
        return {name: _plain_times(item) for name, item in value.items()}
    return [_plain_times(item) for item in value] if isinstance(value, list | tuple) else value


def _state(record: ApiKeyRecord) -> str:
    if record.revoked_at:
        return f"revoked {record.revoked_at:%Y-%m-%d}"
    if record.expires_at:
        return f"{'expires' if record.active else 'expired'} {record.expires_at:%Y-%m-%d}"
    return ""


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
