"""Encryption at rest: AES-256-GCM under one master key, which is kept outside of the database.

    envelope = 1 ‖ nonce (12 random bytes) ‖ ciphertext and tag,      associated data = "countersign/sealed/1/" ‖ identity

The identity says which value of which row this is ("issuer_key/acme/2"), so that whoever can write to the database cannot exchange
one issuer's secret for another's. With random 96-bit nonces a key is good for 2^32 values (NIST SP 800-38D, 8.3).
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.storage.errors import MasterKeyError
from watermark.codebook.keys import read_private, write_once
from watermark.errors import KeyRingError

KEY_BYTES, NONCE_BYTES = 32, 12
VERSION = b"\x01"


class MasterKey:
    """Seals and opens the secrets of the database. Shows nothing of itself."""

    def __init__(self, key: bytes) -> None:
        """Raises MasterKeyError unless `key` has KEY_BYTES bytes."""
        if len(key) != KEY_BYTES:
            raise MasterKeyError(f"A master key has {KEY_BYTES} bytes; this one has {len(key)}.")
        self._cipher = AESGCM(key)

    def __reduce__(self) -> str:
        raise TypeError("A master key stays in the process that read it.")

    @classmethod
    def parse(cls, text: str) -> MasterKey:
        """From hexadecimal or base64url, white space around it ignored. Raises MasterKeyError, without quoting it."""
        text = text.strip()
        try:
            key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text + "=" * (-len(text) % 4), b"-_", True)
        except (ValueError, binascii.Error):
            key = b""
        if len(key) != KEY_BYTES:
            raise MasterKeyError(f"The master key cannot be read: it should be {KEY_BYTES} bytes in hexadecimal or base64url.")
        return cls(key)

    @classmethod
    def from_file(cls, path: Path) -> MasterKey:
        """Raises MasterKeyError: not there, readable by others, or no key in it."""
        try:
            return cls.parse(read_private(path).decode("ascii", "replace"))
        except FileNotFoundError:
            raise MasterKeyError(f"There is no master key file {path}.") from None
        except OSError as error:
            raise MasterKeyError(f"The master key file {path} cannot be read: {error.strerror}.") from None
        except (KeyRingError, MasterKeyError) as error:
            raise MasterKeyError(f"Master key file {path}: {error}") from None

    @classmethod
    def create_file(cls, path: Path) -> MasterKey:
        """A fresh key in a file of mode 0600; where there is one already, that one. Raises MasterKeyError."""
        text = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_once(path, f"{text}\n".encode())
        except FileExistsError:  # another process was quicker
            pass
        except OSError as error:
            raise MasterKeyError(f"The master key file {path} cannot be created: {error.strerror}.") from None
        return cls.from_file(path)

    def seal(self, value: bytes, identity: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + nonce + self._cipher.encrypt(nonce, value, _associated(identity))

    def open(self, sealed: bytes, identity: str) -> bytes:
        """Raises MasterKeyError when another key sealed it, or it was changed or moved to another row."""
        nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        if sealed[:1] != VERSION or len(nonce) != NONCE_BYTES:
            raise MasterKeyError(f"The sealed value {identity!r} has an unknown form: a newer release wrote it, or it is damaged.")
        try:
            return self._cipher.decrypt(nonce, ciphertext, _associated(identity))
        except InvalidTag:
            raise MasterKeyError(
                f"The master key does not open {identity!r}: it is not the key that this database was encrypted with, or the database "
                "was tampered with. Give the right key (COUNTERSIGN_MASTER_KEY or COUNTERSIGN_MASTER_KEY_FILE)."
            ) from None


def _associated(identity: str) -> bytes:
    return f"countersign/sealed/1/{identity}".encode()
