"""Issuer keys and the folder that holds them.

One key is one JSON file, readable by its owner only. The secret leaves this module in memory alone: it is in no repr, no
message and no exception, not even as the context of another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from watermark.errors import InvalidInput, KeyRingError, UnknownIssuer

SECRET_BYTES = 32
MAX_PAYLOAD_BITS = 64
MAX_VERSION = 9999
FORMAT_VERSION = 1
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_FILE_BYTES = 64 * 1024
MAX_DRAWS = 20
"""Secrets drawn for one key. A sound secret is the rule, so more draws would only hide what is wrong with the check."""


@dataclass(frozen=True)
class IssuerKey:
    """Who marks a text: a name, a secret and the number of payload bits that a mark carries beside the name.

    An issuer whose key was rotated has several keys of one name, told apart by their versions, each with a secret of its own.
    """

    name: str
    secret: bytes = field(repr=False)
    payload_bits: int = 0
    created: str = ""
    """ISO 8601, UTC; empty for a key that was never stored."""
    version: int = 1
    """1 … MAX_VERSION. Not part of the codewords: the secret alone tells the versions of an issuer apart."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not isinstance(self.secret, bytes) or len(self.secret) != SECRET_BYTES:
            raise InvalidInput(f"The secret of key {self.name!r} must be {SECRET_BYTES} bytes.")
        if type(self.payload_bits) is not int or not 0 <= self.payload_bits <= MAX_PAYLOAD_BITS:
            raise InvalidInput(f"payload_bits must be 0 … {MAX_PAYLOAD_BITS}; got {self.payload_bits!r}.")
        if type(self.version) is not int or not 1 <= self.version <= MAX_VERSION:
            raise InvalidInput(f"The version of key {self.name!r} must be 1 … {MAX_VERSION}; got {self.version!r}.")


def check_name(name: object) -> str:
    """The name, if it can be an issuer's; it becomes a file name, so nothing else may pass. Raises InvalidInput."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is no issuer name: 1 to 63 lower-case letters, digits, '.', '_' or '-', the first a letter or a digit."
        )
    return name


def draw_key(name: str, payload_bits: int = 0, sound: Callable[[IssuerKey], bool] | None = None, version: int = 1) -> IssuerKey:
    """A key with a fresh secret, not yet stored; with `sound`, the first secret drawn that it accepts.

    Raises InvalidInput (name, payload_bits, version) and KeyRingError (none of MAX_DRAWS secrets was sound).
    """
    created = datetime.now(UTC).isoformat(timespec="seconds")
    draws = (IssuerKey(name, secrets.token_bytes(SECRET_BYTES), payload_bits, created, version) for _ in range(MAX_DRAWS))
    key = next((drawn for drawn in draws if sound is None or sound(drawn)), None)
    if key is None:
        raise KeyRingError(
            f"None of {MAX_DRAWS} secrets drawn for key {name!r} is sound: unmarked texts would score too high with each. That is "
            "no bad luck: the checkpoint or its calibration is at fault. Nothing was written."
        )
    return key


class KeyRing:
    """The keys in one folder, `<folder>/<name>.json`, all of version 1. Nothing is cached: a key made elsewhere is seen at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, name: str) -> Path:
        return self.folder / f"{check_name(name)}.json"

    def create(self, name: str, payload_bits: int = 0, sound: Callable[[IssuerKey], bool] | None = None) -> IssuerKey:
        """A new key with a fresh secret, stored before it is returned; with `sound`, the first secret drawn that it accepts.

        Raises InvalidInput (name, payload_bits) and KeyRingError (the key exists already, the folder cannot be written, or none of
        MAX_DRAWS secrets was sound).
        """
        key = draw_key(name, payload_bits, sound)
        path = self.path(name)
        record = {
            "format_version": FORMAT_VERSION,
            "name": key.name,
            "secret": key.secret.hex(),
            "payload_bits": key.payload_bits,
            "created": key.created,
        }
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_once(path, (json.dumps(record, indent=2) + "\n").encode())
        except FileExistsError:
            raise KeyRingError(f"Key {name!r} exists already ({path}). Texts marked with it need it, so it is never replaced.") from None
        except OSError as error:
            raise KeyRingError(f"Cannot write key {name!r} in {self.folder}: {error.strerror}.") from None
        return key

    def load(self, name: str) -> IssuerKey:
        """Raises UnknownIssuer, or KeyRingError when the file cannot be trusted or read."""
        path = self.path(name)
        try:
            content = read_private(path)
        except FileNotFoundError:
            raise UnknownIssuer(f"No key named {name!r} is in the key ring.") from None
        except OSError as error:
            raise KeyRingError(f"Cannot read key file {path}: {error.strerror}.") from None
        record = _parse(content)
        if record is None:
            raise KeyRingError(
                f"Key file {path} is damaged. Restore it from a backup: a new key cannot verify texts marked with the old one."
            )
        if record["name"] != name:
            # The name goes into every codeword, so a renamed file would silently verify nothing.
            raise KeyRingError(f"Key file {path} holds the key of another issuer. Give the file its old name back.")
        return IssuerKey(**record)

    def names(self) -> list[str]:
        """Sorted. Files that could not be keys by their name are ignored; a missing folder is an empty ring."""
        try:
            files = [entry.name for entry in os.scandir(self.folder) if entry.name.endswith(".json")]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KeyRingError(f"Cannot read the key folder {self.folder}: {error.strerror}.") from None
        return sorted(name for name in (file.removesuffix(".json") for file in files) if NAME_PATTERN.fullmatch(name))

    def all(self) -> list[IssuerKey]:
        """Every key, by name. One damaged file raises: a verification that skips an issuer in silence would be wrong."""
        return [self.load(name) for name in self.names()]


def write_once(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 that appears complete or not at all. Raises FileExistsError rather than replace one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike a rename, a link never replaces what is there
        except FileExistsError:
            raise
        except OSError:  # a file system without links: still exclusive, only no longer all-or-nothing
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_private(path: Path) -> bytes:
    """The start of a file that nobody but its owner may read. Raises OSError and KeyRingError."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode  # of the open file: a check by path could see another one
        if not stat.S_ISREG(mode):
            raise KeyRingError(f"Key file {path} is not a regular file.")
        if os.name == "posix" and mode & 0o077:
            raise KeyRingError(
                f"Key file {path} is open to other users (mode {stat.S_IMODE(mode):04o}). Run: chmod 600 '{path}' "
                "(and make a new key if somebody else may have read this one)."
            )
        return file.read(MAX_FILE_BYTES + 1)


def _parse(content: bytes) -> dict[str, Any] | None:
    """The fields of an IssuerKey, or None when anything is off. Never raises: parser errors quote what they parse."""
    try:
        record = json.loads(content)
        if len(content) > MAX_FILE_BYTES or record["format_version"] != FORMAT_VERSION or not isinstance(record["created"], str):
            return None
        key = IssuerKey(record["name"], bytes.fromhex(record["secret"]), record["payload_bits"], record["created"])
    except (ValueError, KeyError, TypeError, RecursionError, InvalidInput):
        return None
    return {"name": key.name, "secret": key.secret, "payload_bits": key.payload_bits, "created": key.created}
