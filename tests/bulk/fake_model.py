"""A model that computes nothing, in place of the language model in tests of plumbing: what it says of a text quotes the text."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from watermark.codebook.keys import IssuerKey
from watermark.errors import CheckpointError
from watermark.statistics.verdict import Verdict

if TYPE_CHECKING:
    from watermark.pipeline import WatermarkedModel


DEADLY = "This text takes all of the memory."
"""A process that verifies it dies."""


@dataclass(frozen=True)
class FakeModel:
    """Verifies without reading. Imports no torch, which a worker would take seconds for."""

    seconds: float
    """That each text takes."""

    def verify(self, texts: Sequence[str], keys: Sequence[IssuerKey], *, false_positive_rate: float, detail: str) -> list[Verdict]:
        time.sleep(self.seconds * len(texts))
        if DEADLY in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        return [
            Verdict(
                verdict="not_detected",
                issuer=None,
                key_version=None,
                payload=None,
                payload_confidence=None,
                payload_bits=None,
                p_value=1.0,
                exact_p_value=1.0,
                false_positive_rate=false_positive_rate,
                tokens=len(text),
                candidates=len(keys),
                windows=0,
                expected_detection=None,
                explanation=f"fake verdict on: {text}",
            )
            for text in texts
        ]


@dataclass(frozen=True)
class FakeModelChoice:
    """See `watermark.bulk.jobs.LoadsModel`."""

    seconds: float = 0.0
    broken: bool = False

    def load(self) -> WatermarkedModel:
        if self.broken:
            raise CheckpointError("The fake checkpoint is broken.")
        return cast("WatermarkedModel", FakeModel(self.seconds))

    def identity(self) -> str:
        return "fake"
