from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Forty documents of sixty common words, drawn at random."""
    words = ["the", "of", "marking", "text", "model", "river", "stone", "green", "walks", "under", "light", "seven", "early", "begins"]
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("corpus") / "made.jsonl"
    path.write_text("".join(json.dumps({"text": " ".join(rng.choice(words, 60))}) + "\n" for _ in range(70)))
    return path
