"""Verdicts as the service would give them, for the page to show."""

from __future__ import annotations

from typing import Any

from service.schemas.verify import Verdict

NOTHING: dict[str, Any] = {
    "verdict": "not_detected", "issuer": None, "key_version": None, "payload": None, "payload_confidence": None, "payload_bits": None,
    "p_value": 0.5, "exact_p_value": 0.5, "false_positive_rate": 1e-3, "tokens": 100, "candidates": 16, "windows": 0,
    "expected_detection": None, "explanation": "The verdict in the server's own words.", "segments": [], "evidence": None, "receipts": [],
}  # fmt: skip
MARKED: dict[str, Any] = {"verdict": "marked", "issuer": "demo", "key_version": 1, "p_value": 3e-5, "exact_p_value": 1e-5}


def verdict(**changes: Any) -> dict[str, Any]:
    """A verdict, `not_detected` unless changed, in a shape that the service can send."""
    return Verdict.model_validate({**NOTHING, **changes}).model_dump()


def marked(**changes: Any) -> dict[str, Any]:
    return verdict(**{**MARKED, **changes})


def segment(start: int, end: int, issuer: str = "demo", payload: str | None = None, confidence: float | None = None) -> dict[str, Any]:
    about = {"issuer": issuer, "key_version": 2, "payload": payload, "payload_confidence": confidence}
    return {"start": start, "end": end, "tokens": end - start, **about, "p_value": 2e-6}


def evidence(text: str, size: int = 1) -> list[dict[str, Any]]:
    """One token for every `size` characters; their scores go up and down."""
    return [{"start": i, "end": min(i + size, len(text)), "score": (i // size % 7) / 3 - 1} for i in range(0, len(text), size)]
