"""The fake model with one thing wrong, or slow, on purpose. Everything else is passed on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from service.worker import OnStep
from tests.fakes import fake_watermarked_model
from watermark.codebook.keys import IssuerKey
from watermark.sampling.requests import GenerationRequest, GenerationResult
from watermark.statistics.verdict import Verdict


class Wrapper:
    def __init__(self) -> None:
        self.inner = fake_watermarked_model()
        self.batches: list[list[str]] = []
        """Prompts of every call of `generate`."""
        self.verified: list[list[str]] = []

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def lm(self) -> Any:
        return self.inner.lm

    def check(self, request: GenerationRequest) -> None:
        self.inner.check(request)

    def generate(self, requests: Sequence[GenerationRequest], *, on_step: OnStep | None = None) -> list[GenerationResult]:
        self.batches.append([request.prompt for request in requests])
        return self.inner.generate(requests, on_step=on_step)

    def verify(self, texts: Sequence[str], keys: Sequence[IssuerKey], **options: Any) -> list[Verdict]:
        self.verified.append(list(texts))
        return self.inner.verify(texts, keys, **options)


class GatedModel(Wrapper):
    """Generation does not get past its first step until `gate` is open; it goes on asking `on_step` meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.cancelled = threading.Event()

    def generate(self, requests: Sequence[GenerationRequest], *, on_step: OnStep | None = None) -> list[GenerationResult]:
        self.batches.append([request.prompt for request in requests])
        try:
            while not self.gate.wait(0.01):
                if on_step:
                    on_step(0, 1)
        except BaseException:
            self.cancelled.set()
            raise
        return self.inner.generate(requests, on_step=on_step)


class GatedVerifier(Wrapper):
    """Verification of a text with "wait" in it does not begin until `gate` is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.holding = threading.Event()

    def verify(self, texts: Sequence[str], keys: Sequence[IssuerKey], **options: Any) -> list[Verdict]:
        if any("wait" in text for text in texts):
            self.holding.set()
            assert self.gate.wait(20)
        return super().verify(texts, keys, **options)


class PoisonedModel(GatedModel):
    """Any batch with "poison" in a prompt or a text fails, and the check of a prompt with "venom"; the errors quote the text."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.set()

    def check(self, request: GenerationRequest) -> None:
        if "venom" in request.prompt:
            raise ValueError(f"cannot digest {request.prompt!r}")
        super().check(request)

    def generate(self, requests: Sequence[GenerationRequest], *, on_step: OnStep | None = None) -> list[GenerationResult]:
        results = super().generate(requests, on_step=on_step)
        for request in requests:
            if "poison" in request.prompt:
                raise ValueError(f"cannot digest {request.prompt!r}")
        return results

    def verify(self, texts: Sequence[str], keys: Sequence[IssuerKey], **options: Any) -> list[Verdict]:
        for text in texts:
            if "poison" in text:
                raise ValueError(f"cannot digest {text!r}")
        return super().verify(texts, keys, **options)


class DyingModel(GatedModel):
    """A prompt or a text with "kill" in it ends the thread that works on it, as no `Exception` would."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.set()

    def generate(self, requests: Sequence[GenerationRequest], *, on_step: OnStep | None = None) -> list[GenerationResult]:
        if any("kill" in request.prompt for request in requests):
            raise SystemExit("a secret reason")
        return super().generate(requests, on_step=on_step)

    def verify(self, texts: Sequence[str], keys: Sequence[IssuerKey], **options: Any) -> list[Verdict]:
        if any("kill" in text for text in texts):
            raise SystemExit("a secret reason")
        return super().verify(texts, keys, **options)
