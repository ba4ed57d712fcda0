"""One line in, one record out: what a line must be, and what stands in the output for one that cannot be used."""

from __future__ import annotations

import json
from typing import Any

from watermark.errors import InvalidInput

Record = dict[str, Any]
ERROR = b'{"error": '
"""How a written error record begins; no other record does."""


class BadLine(InvalidInput):
    """A line of a batch cannot be used. Its own `code` goes into the output."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def field_of(raw: bytes, key: str) -> str:
    """The string under `key` in one line of JSON. Raises BadLine."""
    try:
        record = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadLine("invalid_json", "not UTF-8") from None
    except (ValueError, RecursionError) as error:
        why = f"not JSON: {getattr(error, 'msg', None) or type(error).__name__}" if raw.strip() else "an empty line"
        raise BadLine("invalid_json", why) from None
    if not isinstance(record, dict):
        raise BadLine("invalid_type", f"a JSON object with {key!r} is needed, not {type(record).__name__}")
    if key not in record:
        raise BadLine("missing_key", f"no {key!r}")
    return text_of(record[key], key)


def text_of(value: Any, key: str) -> str:
    """The value under `key`, if it is a text. Raises BadLine."""
    if not isinstance(value, str):
        raise BadLine("invalid_type", f"{key!r} must be a string, not {type(value).__name__}")
    if not is_text(value):
        raise BadLine("invalid_text", f"{key!r} holds half a surrogate pair, which is no text")
    return value


def is_text(value: str) -> bool:
    """False for strings with lone surrogates, which JSON and the command line can carry and no tokenizer can read."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def error_record(error: InvalidInput, line: int, file: str | None = None) -> Record:
    """What stands in the output for a bad line; `line` counts from 1, in `file` where there are several."""
    return {"error": {"code": error.code, "message": str(error), "line": line} | ({"file": file} if file else {})}


def written(record: Record) -> bytes:
    """A record as a line of the output."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
