"""Base models that ship as Python packages of GGUF pieces, converted once into a transformers folder in the user's cache."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from models.cache import is_complete, made_once
from models.progress import Advance, Stages
from watermark.errors import BaseModelError

BLOCK = 4 * 2**20
CONVERSION = 1
"""Part of the cache folder's name. Raise it when the conversion changes, and everybody's cache is made again."""


@dataclass(frozen=True)
class GgufPackage:
    """An installed package whose `chunk_paths()` lists the pieces of one GGUF file."""

    module: str
    distribution: str
    """What to `pip install` when it is missing."""
    sha256: str
    """Of the assembled file; anything else is refused before transformers parses it."""
    disk_bytes: int
    """Free space that the conversion takes at its peak."""
    seconds: tuple[float, float, float, float] = (2, 40, 15, 5)
    """Usual length of the four stages on two cores, for the bar."""

    def folder(self, name: str, cache: Path) -> Path:
        return cache / "models" / f"{name}-{self.sha256[:12]}-float32-{CONVERSION}"

    def prepare(self, name: str, cache: Path, *, progress: bool) -> Path:
        """The converted model's folder, made on the first call. Raises BaseModelError saying what is missing or damaged."""
        folder = self.folder(name, cache)
        if is_complete(folder):  # works without the package too, e.g. in an image that carries only the cache
            return folder
        pieces = self._pieces(name)
        stages = Stages(
            f"Preparing base model {name} in {folder} (once; takes 1 to 3 minutes).",
            dict(zip(STAGES, self.seconds, strict=True)),
            shown=progress,
        )

        def make(target: Path) -> None:
            with stages.running():
                convert(pieces, self.sha256, target, stages)

        return made_once(folder, make, needed_bytes=self.disk_bytes, say=stages.say)

    def _pieces(self, name: str) -> list[Path]:
        try:
            pieces = [Path(piece) for piece in importlib.import_module(self.module).chunk_paths()]
        except ModuleNotFoundError as error:
            raise BaseModelError(
                f"Base model {name!r} comes from the Python package {self.distribution}, and {error.name} is not installed. "
                f"Run: pip install {self.distribution}"
            ) from None
        missing = [piece.name for piece in pieces if not piece.is_file()]
        if missing:
            raise BaseModelError(
                f"The Python package {self.distribution} is damaged: {', '.join(missing)} missing. "
                f"Run: pip install --force-reinstall {self.distribution}"
            )
        return pieces

    def installed_version(self) -> str | None:
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None


STAGES = ("assembling and checking the file", "reading the weights", "building the tokenizer", "writing")


def convert(pieces: list[Path], sha256: str, target: Path, stages: Stages) -> None:
    """Fill the empty folder `target`: float32 safetensors, config, generation config and tokenizer files."""
    gguf = target / "model.gguf"
    with stages.stage(STAGES[0]) as advance:
        assemble(pieces, sha256, gguf, advance)
    # Heavy imports wait until a missing package or a damaged file has been told.
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from models.transformers_noise import quiet

    with quiet():
        with stages.stage(STAGES[1]):
            model = AutoModelForCausalLM.from_pretrained(target, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True)
        with stages.stage(STAGES[2]):
            tokenizer = AutoTokenizer.from_pretrained(target, gguf_file=gguf.name, local_files_only=True)
        with stages.stage(STAGES[3]):
            # transformers refuses save_pretrained on a model read from GGUF, hence its parts one by one.
            tied = set(model.all_tied_weights_keys)
            state = {key: tensor.contiguous() for key, tensor in model.state_dict().items() if key not in tied}
            save_file(state, target / "model.safetensors", metadata={"format": "pt"})
            vars(model.config).pop("quantization_config", None)  # the tensors are plain float32 now
            model.config.architectures = [type(model).__name__]  # which other engines go by
            model.config.save_pretrained(target)
            if model.generation_config is not None:
                model.generation_config.save_pretrained(target)
            tokenizer.save_pretrained(target)
    gguf.unlink()


def assemble(pieces: list[Path], sha256: str, target: Path, advance: Advance) -> None:
    """Join `pieces` into `target`, hashing on the way. Raises BaseModelError when the result is not the expected file."""
    total, done, digest = sum(piece.stat().st_size for piece in pieces), 0, hashlib.sha256()
    with target.open("wb") as out:
        for piece in pieces:
            with piece.open("rb") as source:
                while block := source.read(BLOCK):
                    digest.update(block)
                    out.write(block)
                    done += len(block)
                    advance(done / total)
    if digest.hexdigest() != sha256:
        raise BaseModelError(
            f"The assembled model file has SHA-256 {digest.hexdigest()}, expected {sha256}: its packages are damaged or of another "
            "version. Reinstall them (pip install --force-reinstall)."
        )
