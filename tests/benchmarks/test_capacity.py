"""Capacity: the arithmetic, the measured database, and a page that follows from its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.capacity import Assumptions, Rates, measure_database, plan
from benchmarks.capacity_page import page

DOCS = Path(__file__).parents[2] / "docs/scale"
RATES = Rates(tokens_per_core=200, verified_per_core=16, replica_cores=2, replica_mib=1536, bytes_per_receipt=2048, receipts_per_second=500)
FLAT = Assumptions(tokens=200, verified_per_text=2, peak=1, utilisation=0.5, core_hour=0.01, gib_month=1, receipt_days=10)


def test_a_plan_by_hand() -> None:
    found = plan(864_000, RATES, FLAT)  # ten texts a second: 2,000 tokens written, 20 texts verified
    assert (found.generation_cores, found.verification_cores, found.replicas) == (20, 3, 12)
    assert found.memory_gib == 18 and found.receipts == 8_640_000 and found.receipts_a_second == 10
    assert found.database_gib == pytest.approx(8_640_000 * 2048 / 2**30)
    assert found.cost_a_month == pytest.approx(24 * 720 * 0.01 + found.database_gib)
    assert found.cost_per_million == pytest.approx(found.cost_a_month / 25.92)


def test_one_text_a_day_needs_a_replica_and_longer_texts_more_cores() -> None:
    assert plan(1, RATES, FLAT).replicas == 1
    longer = Assumptions(**{**FLAT.__dict__, "tokens": 400})
    assert plan(10**7, RATES, longer).generation_cores == pytest.approx(2 * plan(10**7, RATES, FLAT).generation_cores, abs=1)
    assert plan(10**7, RATES, longer).verification_cores == pytest.approx(2 * plan(10**7, RATES, FLAT).verification_cores, abs=1)


def test_the_database_is_measured() -> None:
    kind, size, rate = measure_database(None, 300, 200, seed=0)
    assert kind == "sqlite" and 500 < size < 10_000 and rate > 1


def test_the_page_is_not_edited_by_hand() -> None:
    assert (DOCS / "capacity.md").read_text() == page(json.loads((DOCS / "capacity.json").read_text()))
