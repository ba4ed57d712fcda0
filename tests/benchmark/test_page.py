"""The evidence page in the repository is what its data say, and nothing else."""

from __future__ import annotations

from pathlib import Path

from watermark.benchmark.page import published

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"


def test_the_evidence_is_not_edited_by_hand() -> None:
    assert PAGE.read_text(encoding="utf-8") == published(PAGE)
