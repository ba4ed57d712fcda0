"""A run's work as it travels to the processes that do it: settings and names. Model and secrets are loaded where they are used."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from watermark.bulk.lines import Record
from watermark.bulk.work import TextWork, generating, verifying
from watermark.codebook.keys import IssuerKey, KeyRing
from watermark.errors import KeyRingError
from watermark.sampling.requests import GenerationRequest, SamplingSettings

if TYPE_CHECKING:
    from models.registry import Backend
    from watermark.pipeline import WatermarkedModel
    from watermark.verification import Detail


class LoadsModel(Protocol):
    """Where a worker has its model from."""

    def load(self) -> WatermarkedModel: ...

    def identity(self) -> Any:
        """Tells this model from another one, as plain JSON."""
        ...


@dataclass(frozen=True)
class ModelChoice:
    """Base model and checkpoint by name; see `models.registry`."""

    base_model: str
    checkpoint: Path
    device: str
    backend: Backend

    def prepare(self) -> None:
        """Convert what has to be converted, which takes minutes the first time. Raises BaseModelError."""
        from models.registry import prepare

        prepare(self.base_model, device=self.device, backend=self.backend, checkpoint=self.checkpoint)

    def anywhere(self) -> ModelChoice:
        """With absolute paths, for processes in another working folder."""
        folder = Path(self.base_model).expanduser()
        return dataclasses.replace(
            self, base_model=str(folder.absolute()) if folder.is_dir() else self.base_model, checkpoint=self.checkpoint.absolute()
        )

    def load(self, *, calibrated: bool = True) -> WatermarkedModel:
        """Raises BaseModelError and CheckpointError."""
        from models.registry import load_base_model
        from watermark.pipeline import WatermarkedModel

        lm = load_base_model(self.base_model, device=self.device, backend=self.backend, checkpoint=self.checkpoint, progress=False)
        return WatermarkedModel.load(lm, self.checkpoint, calibrated=calibrated)

    def identity(self) -> Any:
        from watermark.checkpoint_folder import weights_digest

        return [self.base_model, weights_digest(self.checkpoint)]


@dataclass(frozen=True)
class KeyChoice:
    """Keys by name: a worker reads them from the key ring itself, so that no secret goes through another program's memory or log."""

    folder: Path
    keys: tuple[tuple[str, int, str], ...]
    """Name, payload bits and time of creation of each."""

    @classmethod
    def of(cls, ring: KeyRing, keys: Sequence[IssuerKey]) -> KeyChoice:
        return cls(ring.folder.absolute(), tuple((key.name, key.payload_bits, key.created) for key in keys))

    def load(self) -> list[IssuerKey]:
        """Raises UnknownIssuer and KeyRingError, also for a key that is not the one chosen."""
        ring = KeyRing(self.folder)
        found = [ring.load(name) for name, _, _ in self.keys]
        if KeyChoice.of(ring, found) != self:
            raise KeyRingError(f"The keys in {self.folder} are not those that this run began with.")
        return found


class Job(Protocol):
    """One run's work, without what only a worker needs."""

    @property
    def title(self) -> str: ...

    @property
    def field(self) -> str:
        """The key, or the column, under which a line has its text."""
        ...

    def arguments(self) -> Record:
        """What the output depends on besides the input, as plain JSON; no secret is among it."""
        ...

    def seeded(self, seed: int) -> Job:
        """With this seed, unless it has one or draws nothing."""
        ...

    def start(self) -> TextWork[Any]:
        """Ready to work, in this process. Raises what loading model and keys raises."""
        ...


@dataclass(frozen=True)
class VerifyJob:
    """See `Job`."""

    model: LoadsModel
    keys: KeyChoice
    false_positive_rate: float
    detail: Detail

    title, field = "verify", "text"

    def arguments(self) -> Record:
        return {
            "command": self.title,
            "model": self.model.identity(),
            "keys": [list(key) for key in self.keys.keys],
            "false_positive_rate": self.false_positive_rate,
            "detail": self.detail,
        }

    def seeded(self, seed: int) -> VerifyJob:
        return self

    def start(self) -> TextWork[str]:
        return verifying(self.model.load(), self.keys.load(), self.false_positive_rate, self.detail)


@dataclass(frozen=True)
class GenerateJob:
    """See `Job`. `keys` holds one key, or none for unmarked text."""

    model: LoadsModel
    keys: KeyChoice | None
    sampling: SamplingSettings
    payload: int
    strength: float

    title, field = "generate", "prompt"

    def arguments(self) -> Record:
        return {
            "command": self.title,
            "model": self.model.identity(),
            "key": self.keys and [list(key) for key in self.keys.keys],
            "sampling": dataclasses.asdict(self.sampling) | {"stop": list(self.sampling.stop)},
            "payload": self.payload,
            "strength": self.strength,
        }

    def seeded(self, seed: int) -> GenerateJob:
        return self if self.sampling.seed is not None else dataclasses.replace(self, sampling=dataclasses.replace(self.sampling, seed=seed))

    def start(self) -> TextWork[GenerationRequest]:
        key = self.keys.load()[0] if self.keys else None
        return generating(self.model.load(), GenerationRequest("", self.sampling, key, self.payload, self.strength))
