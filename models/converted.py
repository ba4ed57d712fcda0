"""Base models converted for the openvino backend, once for each model, in the user's cache."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from models.cache import is_complete, made_once
from models.loading import WEIGHTS
from models.progress import Stages
from watermark.errors import BaseModelError, NotConvertible

if TYPE_CHECKING:
    from watermark.inference.openvino.lm import OpenVinoLM
    from watermark.inference.torch_lm import TorchLM

CONVERSION = 5
"""Part of the cache folder's name. Raise it when the conversion changes, and everybody's cache is made again."""
STAGES = {"reading the model": 5.0, "converting": 15.0, "checking": 5.0}
REFUSED = 3
"""Exit status of the converting process when the backend cannot run the model."""
PROBE = 64
"""Tokens on which a conversion must agree with the model itself."""
AGREEMENT = 0.1
"""Largest mean divergence (nats) between the two; rounded weights stay below a hundredth on real text."""


def converted_folder(name: str, source: Path, cache: Path) -> Path:
    """Where the conversion of the transformers folder `source` is, or would be: its name changes when a weights file does."""
    digest = hashlib.sha256((source / "config.json").read_bytes())
    for pattern in WEIGHTS:
        for file in sorted(source.glob(pattern)):
            stat = file.stat()
            digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(name).name)
    return cache / "openvino" / f"{plain}-{digest.hexdigest()[:12]}-{CONVERSION}"


def convert_once(name: str, source: Path, cache: Path, *, progress: bool) -> Path:
    """The converted folder, made on the first call (half a minute). Raises NotConvertible for a model that the backend cannot run, and
    BaseModelError."""
    folder = converted_folder(name, source, cache)
    if is_complete(folder):
        return folder
    size = sum(file.stat().st_size for pattern in WEIGHTS for file in source.glob(pattern))

    def make(target: Path) -> None:
        _convert_apart(name, source, target, progress)

    # A weight of two bytes becomes up to 3.7, where one table is the embedding and the head.
    return made_once(folder, make, needed_bytes=2 * size, say=Stages("", {}, shown=progress).say)


def _convert_apart(name: str, source: Path, target: Path, progress: bool) -> None:
    """In a process of its own: it takes gigabytes that this one need not keep, and OpenVINO's threads must not be in one that forks."""
    command = [sys.executable, "-P", "-m", "models.converted", name, str(source), str(target), *(["--progress"] if progress else [])]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False)
    if ran.returncode:
        lines = ran.stdout.splitlines()
        if ran.returncode == REFUSED and lines:
            raise NotConvertible(lines[-1])
        raise BaseModelError(lines[-1] if lines else f"Converting {name!r} for the openvino backend failed (exit status {ran.returncode}).")


def main() -> int:
    """What `_convert_apart` runs. Its last line is the reason when it fails."""
    parser = argparse.ArgumentParser(prog="python -m models.converted")
    parser.add_argument("name")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--progress", action="store_true")
    given = parser.parse_args()
    stages = Stages(f"Converting {given.name} for fast generation on the CPU (once).", STAGES, shown=given.progress)
    try:
        with stages.running():
            convert_checked(given.name, given.source, given.target, stages)
    except NotConvertible as error:
        print(error)
        return REFUSED
    except BaseModelError as error:
        print(error)
        return 1
    return 0


def convert_checked(name: str, source: Path, target: Path, stages: Stages) -> None:
    """Fill the empty folder `target`. Raises NotConvertible, also when the conversion does not compute what the model does, and
    BaseModelError."""
    from models.loading import load_torch
    from models.transformers_noise import quiet
    from watermark.inference.openvino.convert import convert
    from watermark.inference.openvino.lm import OpenVinoLM

    with stages.stage("reading the model"):
        lm = load_torch(source, name)
    with stages.stage("converting"), quiet():
        convert(lm, target)
    with stages.stage("checking"):
        divergence = _divergence(lm, OpenVinoLM(target, lm.tokenizer, name))
        if not divergence < AGREEMENT:
            raise NotConvertible(
                f"{name!r}, converted for the openvino backend, does not compute what the model does: its next-token distributions are "
                f"{divergence:.2f} nats away. The torch backend runs it."
            )


def _divergence(reference: TorchLM, converted: OpenVinoLM) -> float:
    """Mean divergence (nats) of the next-token distributions along a text that the converted model writes, token by token."""
    import torch

    from watermark.extraction.reading import leading_token

    ids = leading_token(reference) or [0]
    running = converted.running((0,))
    coming = running.begin([ids])
    while not coming.advance(hurry=True):
        pass
    running.join(coming)
    found = []
    for _ in range(PROBE):
        logits, _ = running.step(torch.tensor(ids[-1:]))
        found.append(torch.log_softmax(logits[0], dim=-1))
        ids = [*ids, int(logits[0].argmax())]
    with torch.inference_mode():
        wanted = torch.log_softmax(reference.model(input_ids=torch.tensor([ids[:-1]])).logits[0].float(), dim=-1)[-PROBE:]
    return float((wanted.exp() * (wanted - torch.stack(found))).sum(dim=-1).mean())


if __name__ == "__main__":
    sys.exit(main())
