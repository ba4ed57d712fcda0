"""The default base model with its shipped checkpoint: what a user gets. Loaded once."""

from __future__ import annotations

import inspect
import re
from pydoc_data.topics import topics

import pytest

from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model
from watermark.base_model import FrozenLM
from watermark.pipeline import WatermarkedModel


@pytest.fixture(scope="session")
def real_lm() -> FrozenLM:
    return load_base_model(DEFAULT_BASE_MODEL, progress=True)


@pytest.fixture(scope="session")
def real_model(real_lm: FrozenLM) -> WatermarkedModel:
    return WatermarkedModel.load(real_lm, default_checkpoint(DEFAULT_BASE_MODEL))


@pytest.fixture(scope="session")
def human_passages() -> list[str]:
    """Sixty passages of about 120 words that people wrote: the language reference that comes with Python."""
    text = " ".join(inspect.cleandoc(topics[name]) for name in sorted(topics))
    words = re.sub(r"\s+", " ", re.sub(r"[*=~|`\\]{2,}|::", " ", text)).split(" ")
    step = len(words) // 60
    return [" ".join(words[i * step : i * step + 120]) for i in range(60)]
