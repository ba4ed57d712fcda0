"""The benchmark from end to end on the fake model: that every part runs, goes on where it stopped and can be shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.attack_presets import Forgery, Preset
from benchmarks.attack_report import MARKS, plot, put_into, tables
from benchmarks.secret_safety import Run
from tests.fakes import fake_watermarked_model
from watermark.evaluation.generation import WorkFolder
from watermark.evaluation.records import Prompt

TINY = Preset(
    tokens=24,
    unmarked=10,
    single=10,
    nonces=10,
    aside=3,
    held_out=3,
    batch=16,
    forged=2,
    forgeries=(Forgery(0, 2), Forgery(4, 1, push=2.0), Forgery(0, 4, knowledge="codes", source="re-signed")),
    counts=(1, 4),
    simulated_bits=(0, 4),
    trials=2,
    resamples=10,
    guesses=3,
    questions=30,
    asking=2,
)


def test_report_table_and_plot(tmp_path: Path) -> None:
    model = fake_watermarked_model()
    prompts = [Prompt(f"Prompt number {i} says", "", "fake") for i in range(5)]
    first = Run(model, TINY, prompts, WorkFolder(tmp_path / "work", {}), seed=0).report()
    texts = (tmp_path / "work" / "texts.jsonl").read_bytes()
    again = Run(model, TINY, prompts, WorkFolder(tmp_path / "work", {}), seed=0).report()
    assert (tmp_path / "work" / "texts.jsonl").read_bytes() == texts
    assert json.dumps(again) == json.dumps(first)

    settings = {
        "preset": "tiny",
        "base_model": "fake",
        "checkpoint": "fake",
        "tokens": 24,
        "seed": 0,
        "false_positive_rate": 1e-3,
        "date": "today",
    }
    report = json.loads(json.dumps({"settings": settings, "seconds": 1.0, **first}))
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{MARKS.format('begin')}\nold\n{MARKS.format('end')}\nAfter.\n")
    put_into(page, tables(report))
    content = page.read_text()
    assert content.startswith("Before.") and content.endswith("After.\n") and "\nold\n" not in content
    assert "power of ten" in content
    plot(report, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Nothing here.\n")
    with pytest.raises(ValueError, match="has no"):
        put_into(page, "text")
    assert page.read_text() == "Nothing here.\n"
