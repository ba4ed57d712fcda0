"""Verification of one text: its evidence against a codebook, as a whole and in parts, to a verdict.

Two tests share the false-positive rate (a weighted Bonferroni: Genovese, Roeder and Wasserman, Biometrika 93:3, 2006). The whole
text gets `WHOLE` of it, since that is where most marks are found; the windows of `watermark.localisation` get the rest, which
finds a marked passage in a long text at any realistic strength. A text too short for windows has the whole-text test alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from watermark.calibration.file import Calibration
from watermark.calibration.power import SUFFICIENT
from watermark.codebook.book import Best, Candidate, Codebook
from watermark.extraction.extractor import Evidence
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
        totals = np.stack([e.total() for e in evidence])
        best = self.book.best(totals)  # one pass over the book for all texts
        return [self._verdict(e, total, _row(best, i)) for i, (e, total) in enumerate(zip(evidence, totals, strict=True))]

    def _verdict(self, evidence: Evidence, total: np.ndarray, best: _Whole) -> Verdict:
        tail, bits = RademacherTail(total), best.candidate.payload_bits
        lowered = self._lowered(total, best.signs, evidence.tokens, best.statistic)
        whole, exact = (best_of(float(tail.pvalue(s)), payload_bits=bits, units=self.book.units) for s in (lowered, best.statistic))
        parts = find_spans(
            evidence.per_token,
            self.book,
            false_positive_rate=(1 - WHOLE) * self.false_positive_rate,
            adjust=lambda part, signs, tokens: self._lowered(part, signs, tokens, float(signs @ part)),
            known=[(best.candidate, best.signs)],
        )
        p_value, exact, winner = whole, exact, best.candidate
        if parts.windows:
            local = min(1.0, parts.p_value / (1 - WHOLE))
            p_value, exact = min(1.0, whole / WHOLE, local), min(1.0, exact / WHOLE, local)
            if local < whole / WHOLE and isinstance(parts.best, Candidate):
                winner = parts.best
        marked = p_value < self.false_positive_rate
        expected = self._expected(evidence.tokens, winner.payload_bits)
        message = self._payload(winner, total, evidence, parts) if marked and winner.payload_bits else None
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
            segments=self._segments(evidence, parts) if marked else (),
            evidence=_token_evidence(evidence, self._signs_of(winner, best, parts), total) if marked else None,
        )
        if marked and not found.segments:  # the mark is that of the whole text, too weak or too short to be placed
            start, end = evidence.offsets[0][0], evidence.offsets[-1][1]
            found = replace(found, segments=[_segment(start, end, evidence.tokens, winner, message, p_value)])
        return decide(found, self.false_positive_rate, public=self.detail == "public")

    def _lowered(self, total: np.ndarray, signs: np.ndarray, tokens: int, statistic: float) -> float:
        return statistic if self.calibration is None else self.calibration.lowered(statistic, total, signs, tokens)

    def _expected(self, tokens: int, payload_bits: int) -> float | None:
        if self.calibration is None:
            return None
        # A text with windows spends a tenth of the rate on them; the whole-text test has the rest.
        rate = WHOLE * self.false_positive_rate
        return self.calibration.power.expected_detection(tokens, false_positive_rate=rate, payload_bits=payload_bits, units=self.book.units)

    def _payload(self, winner: Candidate, total: np.ndarray, evidence: Evidence, parts: SpanSearch) -> DecodedPayload:
        """From the marked passages of the winner alone where there are any: the rest of the text only adds noise."""
        own = [span for span in parts.spans if span.candidate == winner]
        return self._decoded(winner, sum((_span_total(evidence, span) for span in own), np.zeros_like(total)) if own else total)

    def _decoded(self, candidate: Candidate, total: np.ndarray) -> DecodedPayload:
        payloads, statistics = self.book.rivals(total, candidate.issuer, candidate.version)
        return decode_payload(total, payloads, statistics, payload_bits=candidate.payload_bits, units=2**self.book.nonce_bits)

    def _segments(self, evidence: Evidence, parts: SpanSearch) -> list[Segment]:
        found = []
        for span in parts.spans:
            assert isinstance(span.candidate, Candidate)
            message = self._decoded(span.candidate, _span_total(evidence, span)) if span.candidate.payload_bits else None
            start, end = evidence.offsets[span.start][0], evidence.offsets[span.end - 1][1]
            found.append(_segment(start, end, span.end - span.start, span.candidate, message, min(1.0, span.p_value / (1 - WHOLE))))
        return found

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


def _row(best: Best, i: int) -> _Whole:
    return _Whole(best.candidates[i], best.signs[i], float(best.statistics[i]))


def _segment(start: int, end: int, tokens: int, candidate: Candidate, message: DecodedPayload | None, p_value: float) -> Segment:
    payload = hexadecimal(message.value, candidate.payload_bits) if message and message.value is not None else None
    confidence = message.confidence if message else None
    return Segment(start, end, tokens, candidate.issuer, candidate.version, payload, confidence, p_value)


def _span_total(evidence: Evidence, span: MarkedSpan) -> np.ndarray:
    return evidence.per_token[span.start : span.end].sum(axis=0, dtype=np.float64)


def _token_evidence(evidence: Evidence, signs: np.ndarray, total: np.ndarray) -> list[TokenEvidence]:
    scores = evidence.per_token.astype(np.float32) @ signs.astype(np.float32) / max(float(np.linalg.norm(total)), 1e-12)
    return [TokenEvidence(start, end, float(score)) for (start, end), score in zip(evidence.offsets, scores, strict=True)]
