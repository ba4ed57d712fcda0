"""The folder of a run: what was asked for, the parts that are there, and in the end a manifest of them.

    run.json        arguments, input files, blocks; written before anything is done, and what a later run has to agree with
    parts/          part-000000.jsonl …: one line for each line of its block; put together in this order they are the whole result
    done.jsonl      parts as they were reported, so that a resumed run need not read them again
    manifest.json   written last: all parts with their lines, errors, bytes and SHA-256

A part that is there is whole (`write_part`). One that was not reported any more before the run was killed is read and counted.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from watermark.bulk.blocks import Block
from watermark.bulk.lines import Record
from watermark.bulk.source import cut, digest
from watermark.bulk.work import Summary
from watermark.bulk.worker import Numbered, Part, inspect_part, part_path
from watermark.errors import CountersignError, InvalidInput
from watermark.folders import lock

RUN, PARTS, DONE, MANIFEST = "run.json", "parts", "done.jsonl", "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class InputFile:
    """A file as it was when the run began. Size and time are compared first; the digest only where these do not settle it."""

    path: str
    size: int
    modified: int
    """Nanoseconds."""
    sha256: str


class RunFolder:
    """A run in `path`, new or taken up again. Used in a `with` block, which lets another process have the folder."""

    def __init__(self, path: Path, files: list[Path], field: str, arguments: Record, block_lines: int) -> None:
        """`arguments`: what besides the input the output depends on, as plain JSON.

        Raises InvalidInput: `path` holds anything else than a run like this one, another process is at work there, or an input cannot
        be read.
        """
        self.path, self.files, self.parts = path, files, path / PARTS
        try:
            others = path.is_dir() and any(path.iterdir()) and not (path / RUN).exists() and not (path / DONE).exists()
            if others:
                raise InvalidInput(f"{path} is a folder with other things in it. Choose another --out.")
            self.parts.mkdir(parents=True, exist_ok=True)
            self._journal = (path / DONE).open("a+", encoding="utf-8")
            lock(self._journal, path)
        except OSError as error:
            raise InvalidInput(f"Cannot write {path}: {error.strerror}.") from None
        try:
            self._take_up(arguments | {"block_lines": block_lines}, field, block_lines)
        except BaseException:
            self._journal.close()
            raise

    def _take_up(self, arguments: Record, field: str, block_lines: int) -> None:
        run = self.path / RUN
        if not run.exists():
            inputs = [_describe(file) for file in self.files]
            blocks = [block for index, file in enumerate(self.files) for block in cut(file, index, field, block_lines)]
            record = {"format_version": FORMAT_VERSION, "arguments": arguments, "seed": secrets.randbits(63)}
            _replace(run, record | {"inputs": [asdict(i) for i in inputs], "blocks": [astuple(block) for block in blocks]})
        known = json.loads(run.read_text(encoding="utf-8"))
        self.seed: int = known["seed"]
        """For work that asks for none of its own: a block that is done twice, by whom ever, comes out the same."""
        self._inputs = [InputFile(**entry) for entry in known["inputs"]]
        if known["format_version"] != FORMAT_VERSION or known["arguments"] != arguments or not self._same_input():
            raise InvalidInput(
                f"{self.path} holds a run with other arguments or another input. Repeat that run to finish it, delete the folder, "
                "or choose another --out."
            )
        self.blocks = list(_numbered(Block(*entry) for entry in known["blocks"]))
        self.done = {part.block: part for part in self._reported()}
        for numbered in self.blocks:
            self._look_at(numbered)
        self.lines = sum(numbered.block.lines for numbered in self.blocks)
        self.resumed = sum(part.lines for part in self.done.values())

    def _same_input(self) -> bool:
        """Whether the files are those that the run began with; a copy with another time of change is."""
        if [known.path for known in self._inputs] != [str(file.absolute()) for file in self.files]:
            return False
        return all(
            file.stat().st_size == known.size and (file.stat().st_mtime_ns == known.modified or digest(file) == known.sha256)
            for known, file in zip(self._inputs, self.files, strict=True)
        )

    def _reported(self) -> Iterator[Part]:
        """Parts of the journal. Half a line is left when a process dies while writing."""
        self._journal.seek(0)
        content = self._journal.read()
        if content and not content.endswith("\n"):
            self._journal.write("\n")
        for line in content.split("\n"):
            with contextlib.suppress(ValueError, TypeError):
                yield Part(**json.loads(line))

    def _look_at(self, numbered: Numbered) -> None:
        """Hold what was reported of a block against the part that is there."""
        path, known = part_path(self.parts, numbered.number), self.done.pop(numbered.number, None)
        if not path.exists():
            return
        if known is None or known.bytes != path.stat().st_size:
            known = inspect_part(path, numbered.number)
            if known.lines != numbered.block.lines:
                return
            self._write(known)
        self.done[numbered.number] = known

    # ---- while the run goes on --------------------------------------------------------------------------------------

    def to_do(self) -> list[Numbered]:
        return [numbered for numbered in self.blocks if numbered.number not in self.done]

    def report(self, part: Part) -> None:
        """A part is there."""
        self.done[part.block] = part
        self._write(part)

    def lines_there(self) -> int:
        """Lines of the parts on the disk, reported or not."""
        return sum(numbered.block.lines for numbered in self.blocks if part_path(self.parts, numbered.number).exists())

    def finish(self) -> Summary:
        """Write the manifest. Raises CountersignError when a part is missing or the input has changed meanwhile."""
        if missing := len(self.to_do()):
            raise CountersignError(f"{missing} of {len(self.blocks)} parts are missing in {self.path}; the same command again makes them.")
        if not self._same_input():
            raise CountersignError(f"The input has changed since the run in {self.path} began; its parts belong to the earlier one.")
        parts = [self.done[numbered.number] for numbered in self.blocks]
        errors = sum(part.errors for part in parts)
        entries = [asdict(part) | {"path": f"{PARTS}/{part_path(self.parts, part.block).name}"} for part in parts]
        _replace(self.path / MANIFEST, {"format_version": FORMAT_VERSION, "lines": self.lines, "errors": errors, "parts": entries})
        return Summary(self.lines, errors, self.resumed, str(self.path))

    def _write(self, part: Part) -> None:
        self._journal.write(json.dumps(asdict(part)) + "\n")
        self._journal.flush()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()


def _describe(file: Path) -> InputFile:
    stat = file.stat()
    return InputFile(str(file.absolute()), stat.st_size, stat.st_mtime_ns, digest(file))


def _numbered(blocks: Iterator[Block]) -> Iterator[Numbered]:
    index = 0
    for number, block in enumerate(blocks):
        yield Numbered(number, index, block)
        index += block.lines


def _replace(path: Path, record: Any) -> None:
    """A JSON file that is there whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(record, file)
    partial.replace(path)
