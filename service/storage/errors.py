"""Errors of the storage. Their messages may be shown to callers: no path, address, password or value is in them unless said."""

from __future__ import annotations

from watermark.errors import CountersignError, InvalidInput


class StorageUnavailable(CountersignError):
    """The database cannot be reached, read or written just now; try again later. What was not acknowledged may be lost, or kept whole."""

    code = "storage_unavailable"


class StorageError(CountersignError):
    """The database is there but cannot be used by this release. For the operator."""

    code = "storage"


class MasterKeyError(CountersignError):
    """The master key is missing, malformed or not the one that the database was encrypted with. For the operator; may name a file."""

    code = "master_key"


class Conflict(InvalidInput):
    """What is asked for does not go together with what is stored. HTTP 409."""

    code = "conflict"


class IssuerExists(Conflict):
    """An issuer of that name is stored already, with another key."""

    code = "issuer_exists"


class IssuerRetired(Conflict):
    """The issuer was retired: its marks are still verified, but nothing is marked for it any more."""

    code = "issuer_retired"


class ApiKeyExists(Conflict):
    """An API key of that name is stored already."""

    code = "api_key_exists"


class UnknownApiKey(InvalidInput):
    """There is no API key of that name."""

    code = "unknown_api_key"
