"""The fake model with one thing wrong, or slow, on purpose, for the worker processes of the real engine. Loaded there, by name.

What a test process wants to tell such a model stands in the prompt or the text, or is the existence of a file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fakes import fake_watermarked_model
from watermark.errors import BaseModelError
from watermark.generation import Generation, GenerationSession
from watermark.inference import torch_running
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import GenerationRequest


class FaultySession(GenerationSession):
    """By what is in a prompt: `refuse` fails at admission, `poison` at the fifth token, `kill` ends the process there, `hang` sleeps, and
    `slow` takes a tenth of a second a token."""

    def admit(self, requests: Sequence[GenerationRequest], *, hurry: bool = False) -> list[Generation]:
        if any("refuse" in self._prompt(request) for request in requests):
            raise ValueError("refused, quoting a secret prompt")
        return super().admit(requests, hurry=hurry)

    def step(self) -> list[Generation]:
        for row, generation in self._running.items():
            prompt = self._prompt(generation.request)
            if len(row.ids) == 5:
                if "poison" in prompt:
                    raise ValueError(f"cannot digest {prompt!r}")
                if "kill" in prompt:
                    os._exit(9)
                if "hang" in prompt:
                    time.sleep(60)
            if "slow" in prompt:
                time.sleep(0.1)
        return super().step()

    def _prompt(self, request: GenerationRequest) -> str:
        return request.prompt if isinstance(request.prompt, str) else self.model.lm.decode(list(request.prompt))


class FaultyModel(WatermarkedModel):
    def session(self) -> GenerationSession:
        return FaultySession(self)

    def verify(self, texts: Sequence[str], *args: Any, **kwargs: Any) -> list[Any]:
        for text in texts:
            if "poison" in text:
                raise ValueError(f"cannot digest {text!r}")
            if "kill" in text:
                os._exit(9)
            if "hang" in text:
                time.sleep(60)
        return super().verify(texts, *args, **kwargs)


def faulty() -> WatermarkedModel:
    sound = fake_watermarked_model()
    return FaultyModel(sound.lm, sound.pair, sound.name)


class SluggishModel(FaultyModel):
    """Reads 16 tokens of a prompt in a fifth of a second."""

    def session(self) -> GenerationSession:
        torch_running.CHUNK = 16  # in a worker process, which ends with the test
        session = super().session()
        advance = torch_running.TorchComing.advance

        def slowly(self: torch_running.TorchComing, hurry: bool) -> bool:
            time.sleep(0.2)
            return advance(self, hurry)

        torch_running.TorchComing.advance = slowly
        return session


def sluggish() -> WatermarkedModel:
    sound = fake_watermarked_model()
    return SluggishModel(sound.lm, sound.pair, sound.name)


def unloadable() -> WatermarkedModel:
    raise BaseModelError("There is no such model here.")


def broken() -> WatermarkedModel:
    raise RuntimeError("a message with a secret in it")


class LoadedOnce:
    """Fails, unlike a real model, when it is loaded for the second time by processes that share the file `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __hash__(self) -> int:
        return hash(self.marker)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadedOnce) and other.marker == self.marker

    def __call__(self) -> WatermarkedModel:
        self.marker.touch(exist_ok=False)
        return faulty()
