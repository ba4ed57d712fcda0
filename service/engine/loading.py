"""Which model the service runs: loaded in the nursery, named here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.registry import Backend
    from service.settings import Settings
    from watermark.pipeline import WatermarkedModel


@dataclass(frozen=True)
class LoadModel:
    """Called in another process, so it carries names only; equal ones are loaded once."""

    base_model: str
    checkpoint: str | None
    backend: Backend

    @staticmethod
    def of(settings: Settings) -> LoadModel:
        return LoadModel(settings.base_model, settings.checkpoint, settings.backend if settings.device == "cpu" else "torch")

    def __call__(self) -> WatermarkedModel:
        """Takes seconds, or minutes the very first time. Raises CountersignError."""
        from models.registry import checkpoint_folder, load_base_model
        from watermark.pipeline import WatermarkedModel

        # The cheap check first: a missing checkpoint should not cost a model download.
        checkpoint = checkpoint_folder(self.base_model, self.checkpoint)
        # Workers compute, and check that the pair fits the model's weights; the process that forks them must not.
        return WatermarkedModel.attach(load_base_model(self.base_model, backend=self.backend, checkpoint=checkpoint), checkpoint)
