"""Training text: JSON lines `{"text", "source"}`, plain or gzip, one file or a folder of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from watermark.errors import InvalidInput
from watermark.records import read_records


def corpus_files(path: Path) -> list[Path]:
    """The JSON-lines files at `path` (a file, or every .jsonl / .jsonl.gz in a folder), sorted by name."""
    files = [path] if path.is_file() else sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")])
    if not files:
        raise InvalidInput(f"No .jsonl or .jsonl.gz file at {path}. Give a file or folder of JSON lines with a 'text' in each.")
    return files


def read_texts(path: Path) -> list[str]:
    """All texts of one file. Raises InvalidInput naming a record without one."""
    texts = []
    for number, record in enumerate(read_records(path), 1):
        if not isinstance(record.get("text"), str):
            raise InvalidInput(f'{path}, record {number}: expected a "text".')
        texts.append(record["text"])
    return texts


def shuffled_documents(path: Path, rng: np.random.Generator) -> Iterator[str]:
    """Documents drawn round-robin over the files, so that a large source does not drown the small ones; each at most once."""
    pools = [read_texts(file) for file in corpus_files(path)]
    queues = [[pool[i] for i in rng.permutation(len(pool))] for pool in pools]
    while queues:
        for queue in queues:
            yield queue.pop()
        queues = [queue for queue in queues if queue]
