"""Countersign: marks text while a frozen language model writes it, and later says who issued it, from the text alone.

    from watermark import GenerationRequest, KeyRing, SamplingSettings, WatermarkedModel

The library knows neither web nor database. Where base models and checkpoints come from is the business of `models`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watermark.codebook.keys import IssuerKey, KeyRing
    from watermark.pipeline import WatermarkedModel
    from watermark.sampling.requests import GenerationRequest, GenerationResult, Marking, SamplingSettings
    from watermark.statistics.verdict import Verdict

_HOME = {
    "IssuerKey": "watermark.codebook.keys",
    "KeyRing": "watermark.codebook.keys",
    "WatermarkedModel": "watermark.pipeline",
    "GenerationRequest": "watermark.sampling.requests",
    "GenerationResult": "watermark.sampling.requests",
    "Marking": "watermark.sampling.requests",
    "SamplingSettings": "watermark.sampling.requests",
    "Verdict": "watermark.statistics.verdict",
}
__all__ = [
    "GenerationRequest",
    "GenerationResult",
    "IssuerKey",
    "KeyRing",
    "Marking",
    "SamplingSettings",
    "Verdict",
    "WatermarkedModel",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: torch takes seconds, and `countersign keys list` needs none of it.
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'watermark' has no attribute {name!r}")
