"""The library's front door: a frozen language model with its watermark pair, which writes marked text and verifies any text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from watermark.base_model import FrozenLM
from watermark.calibration.file import Calibration, load_calibration
from watermark.checkpoint import load_pair, refuse_other_weights
from watermark.checkpoint_folder import weights_digest
from watermark.codebook.book import codebook
from watermark.codebook.keys import IssuerKey
from watermark.extraction.extractor import Evidence
from watermark.extraction.reading import Made, read_evidence
from watermark.generation import GenerationSession, prompt_ids
from watermark.pair import AnyPair
from watermark.sampling.decode import StepHook
from watermark.sampling.requests import GenerationRequest, GenerationResult
from watermark.statistics.decision import check_rate
from watermark.statistics.verdict import Verdict
from watermark.verification import UNCALIBRATED_TOKENS, Detail, Verifier

FALSE_POSITIVE_RATE = 1e-3
"""Default threshold on the corrected p-value."""


class WatermarkedModel:
    """Generates and verifies. Stateless between calls; one instance serves several threads."""

    def __init__(self, lm: FrozenLM, pair: AnyPair, name: str, calibration: Calibration | None = None) -> None:
        self.lm, self.pair, self.name, self.calibration = lm, pair, name, calibration
        self.config = pair.config

    @classmethod
    def load(cls, lm: FrozenLM, checkpoint: Path, *, calibrated: bool = True) -> WatermarkedModel:
        """Attach the checkpoint in folder `checkpoint` to `lm`, without its calibration if that is about to be made (anew). Raises
        CheckpointError."""
        model = cls.attach(lm, checkpoint, calibrated=calibrated)
        model.check_base_model()
        return model

    @classmethod
    def attach(cls, lm: FrozenLM, checkpoint: Path, *, calibrated: bool = True) -> WatermarkedModel:
        """`load` without running the model, for a process that is going to fork; `check_base_model` is then to be called in the forks."""
        pair = load_pair(checkpoint, lm)
        calibration = load_calibration(checkpoint, weights_digest(checkpoint), pair.config.n) if calibrated else None
        return cls(lm, pair, checkpoint.name, calibration)

    def check_base_model(self) -> None:
        """Raises CheckpointError if the pair was trained for a model with other weights."""
        refuse_other_weights(self.name, self.config, self.lm)

    def to(self, device: str) -> None:
        """Move model and pair. Raises BaseModelError for a device that is not there or that the backend cannot use."""
        self.lm.to(device)
        self.pair.to(device)

    # ---- generation -------------------------------------------------------------------------------------------------

    def check(self, request: GenerationRequest) -> None:
        """Raise InvalidInput or PromptTooLong for a request that cannot be generated, before any work is done."""
        prompt_ids(self, request)

    def session(self) -> GenerationSession:
        """A running batch that requests join and leave; for callers that stream, or whose requests come one by one."""
        return GenerationSession(self)

    def generate(self, requests: Sequence[GenerationRequest], *, on_step: StepHook | None = None) -> list[GenerationResult]:
        """Continue all prompts as one batch, then verify every marked text as a verifier would.

        `on_step(done, at most)` is called after every token and may raise `Cancelled`. Raises what `check` raises.
        """
        session = self.session()
        admitted = session.admit(requests, hurry=True)
        steps, most = 0, max((request.sampling.max_new_tokens for request in requests), default=0)
        while len(session):
            session.step()
            steps += 1
            if on_step:
                on_step(steps, most)
        return [generation.result for generation in admitted if generation.result is not None]

    def enough(self, key: IssuerKey) -> str:
        """From which length on marks of this key are found reliably, in words."""
        if self.calibration is None:
            return f"Marks are found reliably from about {UNCALIBRATED_TOKENS}."
        power, units = self.calibration.power, 2**self.config.nonce_bits
        tokens = power.sufficient_tokens(false_positive_rate=FALSE_POSITIVE_RATE, payload_bits=key.payload_bits, units=units)
        return f"Marks of this issuer are found reliably from about {tokens or f'{power.lengths[-1]} or more'}."

    # ---- verification -----------------------------------------------------------------------------------------------

    def verify(
        self,
        texts: Sequence[str],
        keys: Sequence[IssuerKey],
        *,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        detail: Detail = "full",
        on_batch: Callable[[], None] = lambda: None,
    ) -> list[Verdict]:
        """One verdict per text, in order, against all codewords of `keys`.

        `full` adds segments, confidences and the evidence per token; `public` is a coarse answer for everybody.
        `on_batch` is called between the pieces that texts are read in, at most some seconds apart.
        Raises InvalidInput: no keys, more than can be tried, or a false-positive rate outside (0, 1).
        """
        return self._read(texts, self._verifier(keys, false_positive_rate, detail).verdicts, on_batch)

    def evidence(self, texts: Sequence[str], on_batch: Callable[[], None] = lambda: None) -> list[Evidence]:
        """Evidence of each text for every sign of a codeword; independent of any key.

        `on_batch` is called between the pieces that texts are read in, at most some seconds apart.
        """
        return self._read(texts, list, on_batch)

    def verdicts(
        self,
        evidence: Sequence[Evidence],
        keys: Sequence[IssuerKey],
        *,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        detail: Detail = "full",
    ) -> list[Verdict]:
        """`verify` for texts that have been read before: reading takes longest, and is the same for all keys."""
        verifier = self._verifier(keys, false_positive_rate, detail)
        with self.lm.computing():  # no: but others' threads, once woken, would hold up the next reading
            return verifier.verdicts(evidence)

    def _verifier(self, keys: Sequence[IssuerKey], false_positive_rate: float, detail: Detail) -> Verifier:
        check_rate(false_positive_rate)
        with self.lm.computing():
            book = codebook(tuple(keys), self.config.nonce_bits, self.config.n)
        return Verifier(book, self.calibration, false_positive_rate, detail)

    def _read(self, texts: Sequence[str], made_of: Callable[[list[Evidence]], Sequence[Made]], on_batch: Callable[[], None]) -> list[Made]:
        with self.lm.computing():
            return read_evidence(self.lm, self.pair.extractor, texts, self.config.query_layers, made_of, on_batch)
