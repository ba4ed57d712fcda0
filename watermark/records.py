"""JSON lines, plain or gzipped: the format of every text file that Countersign reads in bulk."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watermark.errors import InvalidInput


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a .jsonl or .jsonl.gz file, blank lines skipped. Raises InvalidInput with the file and line."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise InvalidInput(f"{path}, line {number}: expected a JSON object, found {type(record).__name__}.")
                    yield record
    except (OSError, EOFError) as error:
        raise InvalidInput(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error
    except ValueError as error:  # bad JSON or bad UTF-8
        raise InvalidInput(f"{path}, line {max(number, 1)}: not JSON lines in UTF-8 ({error}).") from error
