from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.scaling_page import Costs, costs, page, rate

FOLDER = Path(__file__).parents[2] / "docs" / "scale"
RECORD = json.loads((FOLDER / "scaling.json").read_text())


def test_the_page_is_not_edited_by_hand() -> None:
    assert (FOLDER / "scaling.md").read_text() == page(RECORD)


def test_costs_and_rates_by_hand() -> None:
    def window(answers: int, tokens: int) -> dict:
        cpu = {"replica": 9.0, "ingress": 1.0, "proxy": 0.5, "client": 0.1, "ray": 0.8}
        return {"seconds": 10.0, "answers": answers, "tokens": tokens, "cpu_seconds": cpu}

    record = {"rounds": [{"1": {"verify": window(100, 0), "generate": window(10, 1000)}}]}
    found = costs("verify", record)
    assert (found.replica, found.ingress, found.ray) == pytest.approx((0.09, 0.01, 0.08))
    assert costs("generate", record).replica == pytest.approx(0.009)
    assert rate("verify", window(100, 0)) == 10 and rate("generate", window(10, 1000)) == 100


def test_replicas_add_up_until_what_is_before_them_is_busy() -> None:
    found = Costs(replica=0.1, ingress=0.01, proxy=0.02, client=0.0, ray=0.1)
    assert found.rate(1) == pytest.approx(10) and found.rate(4) == pytest.approx(40)
    assert found.rate(8) == pytest.approx(50) == found.rate(64)  # the proxy: 50 a second
    assert found.rate(16, ingresses=2) == pytest.approx(100)
