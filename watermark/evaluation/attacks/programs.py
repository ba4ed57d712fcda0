"""Attacks by programs outside Python: machine translation there and back, and any paraphraser that you have."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from watermark.errors import InvalidInput
from watermark.evaluation.attacks.instruct import load_instruct_model

TIMEOUT = 600.0
"""Seconds that a program may take for one text."""
_SHOWN = 300
"""Characters of a program's complaint that go into ours."""


def round_trip_spanish(text: str) -> str:
    """English to Spanish and back by Apertium, a translator by rules: no network, and the same result every time."""
    body = text.strip()
    if not body:
        return text
    # NUL would end a text for Apertium, and half a surrogate pair has no UTF-8.
    body = body.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
    for direction in ("eng-spa", "spa-eng"):
        body = run_program(["apertium", "-u", direction], body).strip()
    start = len(text) - len(text.lstrip())
    return text[:start] + body + text[len(text.rstrip()) :]


@functools.cache
def check_apertium() -> None:
    """Raises InvalidInput unless Apertium and its English-Spanish data are installed."""
    found = run_program(["apertium", "-l"], "") if shutil.which("apertium") else ""
    if not {"eng-spa", "spa-eng"} <= set(found.split()):
        raise InvalidInput(
            "The attack 'round-trip-spanish' needs the program apertium with its English-Spanish data. "
            "On Debian or Ubuntu: sudo apt-get install apertium apertium-eng-spa"
        )


def paraphrase(text: str, rng: np.random.Generator, paraphraser: Sequence[str]) -> str:
    """By the instruct model in a folder, or what a command prints for the text on its standard input."""
    if not text.strip():
        return text
    body, seed = text.encode("utf-8", "replace").decode("utf-8"), int(rng.integers(2**31))
    if folder := _model_folder(paraphraser):
        return load_instruct_model(folder).rewrite(body, seed)
    return run_program(paraphraser, body).strip()


def _model_folder(paraphraser: Sequence[str]) -> Path | None:
    folder = Path(paraphraser[0])
    return folder if len(paraphraser) == 1 and folder.is_dir() else None


def check_paraphraser(command: Sequence[str]) -> None:
    """Raises InvalidInput unless there is a program of that name, or a folder with a model."""
    if not command:
        raise InvalidInput(
            "The attack 'paraphrase' needs a folder with an instruct model, or a command that reads a text and prints its paraphrase; "
            "give --paraphraser."
        )
    if folder := _model_folder(command):
        load_instruct_model(folder)
    elif shutil.which(command[0]) is None:
        raise InvalidInput(f"The paraphraser {command[0]!r} is not a program that can be run.")


def run_program(command: Sequence[str], text: str) -> str:
    """Standard output of a program that reads `text`. Raises InvalidInput when it fails, takes too long, or prints no UTF-8."""
    name = shlex.join(command)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(list(command), input=text.encode(), capture_output=True, timeout=TIMEOUT, check=False, env=environment)
    except OSError as error:
        raise InvalidInput(f"{name!r} cannot be run: {error.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise InvalidInput(f"{name!r} took more than {TIMEOUT:.0f} seconds for a text of {len(text):,} characters.") from None
    if done.returncode != 0:
        complaint = done.stderr.decode("utf-8", "replace").strip()[-_SHOWN:]
        raise InvalidInput(f"{name!r} failed with exit status {done.returncode}: {complaint or 'it said nothing'}")
    try:
        return done.stdout.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{name!r} printed something that is not UTF-8.") from None
