"""Tiny models of many architectures, converted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_base_model import tiny
from watermark.inference.openvino.convert import convert
from watermark.inference.openvino.lm import OpenVinoLM
from watermark.inference.torch_lm import TorchLM


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory):
    """family → the torch model and its conversion."""
    made: dict[str, tuple[TorchLM, OpenVinoLM]] = {}

    def of(family: str) -> tuple[TorchLM, OpenVinoLM]:
        if family not in made:
            lm, folder = tiny(family), Path(tmp_path_factory.mktemp(family))
            convert(lm, folder)
            made[family] = lm, OpenVinoLM(folder, lm.tokenizer, family)
        return made[family]

    return of
