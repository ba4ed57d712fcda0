"""The real engine with the fake model and low limits. Nothing here imports torch: a process that only has workers does not need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.engine.engine import BatchingEngine
from service.engine.protocol import Engine, Role
from service.settings import build_settings

if TYPE_CHECKING:
    from watermark.pipeline import WatermarkedModel

SMALL: dict[str, Any] = {
    "batch_size": 4,
    "queue_size": 12,
    "max_prompts": 12,
    "max_texts": 12,
    "max_new_tokens": 400,
    "restart_seconds": 0.05,
    "verify_batch_characters": 1000,
    "threads": 1,
    "log_level": "ERROR",
}


@dataclass(frozen=True)
class LoadFaulty:
    """The model that fails and dawdles when it is told to."""

    def __call__(self) -> WatermarkedModel:
        from tests.service.engine.fake_models import faulty

        return faulty()


def small_engine(roles: Sequence[Role]) -> Engine:
    return BatchingEngine(build_settings(**SMALL), LoadFaulty(), roles=roles)
