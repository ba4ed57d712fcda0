"""Verification of one text: its evidence against a codebook, as a whole and in parts, to a verdict.

Two tests share the false-positive rate (a weighted Bonferroni: Genovese, Roeder and Wasserman, Biometrika 93:3, 2006). The whole
text gets `WHOLE` of it, since that is where most marks are found; the windows of `watermark.localisation` get the rest, which
finds a marked passage in a long text at any realistic strength. A text too short for windows has the whole-text test alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from watermark.calibration.file import Calibration
from watermark.calibration.power import SUFFICIENT
from watermark.codebook.book import Candidate, Codebook
from watermark.extraction.extractor import Evidence
from watermark.floats import BLOCK, single, summed
from watermark.localisation.search import MarkedSpan, SpanSearch, find_spans
from watermark.statistics.correction import best_of
from watermark.statistics.decision import Findings, decide
from watermark.statistics.posterior import DecodedPayload, decode_payload
from watermark.statistics.rademacher import RademacherTail
from watermark.statistics.verdict import Segment, TokenEvidence, Verdict, hexadecimal

Detail = Literal["public", "full"]
WHOLE = 0.9
"""Share of the false-positive rate that the test of the whole text has."""
UNCALIBRATED_TOKENS = 50
"""Below this length a missing mark means nothing, for a checkpoint that was never calibrated: a rule of thumb."""


@dataclass(frozen=True)
class Verifier:
    """Holds what all texts of one call are verified against."""

    book: Codebook
    calibration: Calibration | None
    false_positive_rate: float
    detail: Detail

    def verdicts(self, evidence: Sequence[Evidence]) -> list[Verdict]:
        """One per text, in order."""
        if not evidence:
            return []
        evidence = [e.widened() for e in evidence]
        totals = np.stack([e.total() for e in evidence])
        best = self.book.best(totals)  # one pass over the book for all texts
        lowered = self._lowered(best.statistics, totals, best.signs, np.array([e.tokens for e in evidence]))
        found = map(_Whole, best.candidates, best.signs, best.statistics.tolist(), lowered.tolist())
        if len(evidence) > 1:
            return [self._verdict(e, t, f, partial(RademacherTail, t)) for e, t, f in zip(evidence, totals, found, strict=True)]
        # Of one text, the tail takes as long as a good part of the search for windows, and another core has nothing to do.
        with ThreadPoolExecutor(1) as beside:
            return [self._verdict(evidence[0], totals[0], next(found), beside.submit(RademacherTail, totals[0]).result)]

    def _verdict(self, evidence: Evidence, total: np.ndarray, best: _Whole, tail: Callable[[], RademacherTail]) -> Verdict:
        parts = find_spans(
            evidence.per_token,
            self.book,
            false_positive_rate=(1 - WHOLE) * self.false_positive_rate,
            adjust=self._lowered,
            known=[(best.candidate, best.signs)],
        )
        tails = tail().pvalue([best.lowered, best.statistic])
        whole, exact = (best_of(p, payload_bits=best.candidate.payload_bits, units=self.book.units) for p in tails.tolist())
        p_value, exact, winner = whole, exact, best.candidate
        if parts.windows:
            local = min(1.0, parts.p_value / (1 - WHOLE))
            p_value, exact = min(1.0, whole / WHOLE, local), min(1.0, exact / WHOLE, local)
            if local < whole / WHOLE and isinstance(parts.best, Candidate):
                winner = parts.best
        marked = p_value < self.false_positive_rate
        expected = self._expected(evidence.tokens, winner.payload_bits)
        messages = [self._decoded(span.candidate, _span_total(evidence, span)) for span in parts.spans] if marked else []
        message = self._payload(winner, total, evidence, parts, messages) if marked else None
        found = Findings(
            issuer=winner.issuer if evidence.tokens else None,
            key_version=winner.version if evidence.tokens else None,
            payload=message,
            p_value=p_value,
            exact_p_value=exact,
            tokens=evidence.tokens,
            candidates=self.book.candidates,
            windows=parts.windows,
            expected_detection=expected,
            sufficient=evidence.tokens >= UNCALIBRATED_TOKENS if expected is None else expected >= SUFFICIENT,
            segments=_segments(evidence, parts, messages) if marked else (),
            evidence=_token_evidence(evidence, self._signs_of(winner, best, parts), total) if marked else None,
        )
        if marked and not found.segments:  # the mark is that of the whole text, too weak or too short to be placed
            start, end = evidence.offsets[0][0], evidence.offsets[-1][1]
            found = replace(found, segments=[_segment(start, end, evidence.tokens, winner, message, p_value)])
        return decide(found, self.false_positive_rate, public=self.detail == "public")

    def _lowered(self, statistics: np.ndarray, totals: np.ndarray, signs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return statistics if self.calibration is None else self.calibration.lowered(statistics, totals, signs, tokens)

    def _expected(self, tokens: int, payload_bits: int) -> float | None:
        if self.calibration is None:
            return None
        # A text with windows spends a tenth of the rate on them; the whole-text test has the rest.
        rate = WHOLE * self.false_positive_rate
        return self.calibration.power.expected_detection(tokens, false_positive_rate=rate, payload_bits=payload_bits, units=self.book.units)

    def _payload(
        self, winner: Candidate, total: np.ndarray, evidence: Evidence, parts: SpanSearch, messages: Sequence[DecodedPayload | None]
    ) -> DecodedPayload | None:
        """From the marked passages of the winner alone where there are any: the rest of the text only adds noise."""
        own = [(span, message) for span, message in zip(parts.spans, messages, strict=True) if span.candidate == winner]
        if len(own) == 1:
            return own[0][1]
        return self._decoded(winner, sum((_span_total(evidence, span) for span, _ in own), np.zeros_like(total)) if own else total)

    def _decoded(self, candidate: Hashable, total: np.ndarray) -> DecodedPayload | None:
        """None without payload bits."""
        assert isinstance(candidate, Candidate)
        if not candidate.payload_bits:
            return None
        payloads, statistics = self.book.rivals(total, candidate.issuer, candidate.version)
        return decode_payload(total, payloads, statistics, payload_bits=candidate.payload_bits, units=2**self.book.nonce_bits)

    def _signs_of(self, winner: Candidate, best: _Whole, parts: SpanSearch) -> np.ndarray:
        if winner == best.candidate:
            return best.signs
        return next((span.signs for span in parts.spans if span.candidate == winner), best.signs)


@dataclass(frozen=True)
class _Whole:
    """The best codeword for the whole text."""

    candidate: Candidate
    signs: np.ndarray
    statistic: float
    lowered: float
    """The statistic less what unmarked texts lean towards the codeword."""


def _segments(evidence: Evidence, parts: SpanSearch, messages: Sequence[DecodedPayload | None]) -> list[Segment]:
    found = []
    for span, message in zip(parts.spans, messages, strict=True):
        assert isinstance(span.candidate, Candidate)
        start, end = evidence.offsets[span.start][0], evidence.offsets[span.end - 1][1]
        found.append(_segment(start, end, span.end - span.start, span.candidate, message, min(1.0, span.p_value / (1 - WHOLE))))
    return found


def _segment(start: int, end: int, tokens: int, candidate: Candidate, message: DecodedPayload | None, p_value: float) -> Segment:
    payload = hexadecimal(message.value, candidate.payload_bits) if message and message.value is not None else None
    confidence = message.confidence if message else None
    return Segment(start, end, tokens, candidate.issuer, candidate.version, payload, confidence, p_value)


def _span_total(evidence: Evidence, span: MarkedSpan) -> np.ndarray:
    return summed(evidence.per_token[span.start : span.end])


def _token_evidence(evidence: Evidence, signs: np.ndarray, total: np.ndarray) -> list[TokenEvidence]:
    direction = signs.astype(np.float32) / max(float(np.linalg.norm(total)), 1e-12)
    parts = (evidence.per_token[first : first + BLOCK] for first in range(0, evidence.tokens, BLOCK))
    scores = itertools.chain.from_iterable((single(part) @ direction).tolist() for part in parts)
    return [TokenEvidence(start, end, score) for (start, end), score in zip(evidence.offsets, scores, strict=True)]
