"""The pure parts of the speed benchmark, and its contestants' processes. Its run is a measurement, not a test."""

from __future__ import annotations

import argparse
import json
import time
import venv
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.speed.__main__ import chosen
from benchmarks.speed.bench import QUICK, Bench
from benchmarks.speed.contest import Contestant
from benchmarks.speed.generating import versus
from benchmarks.speed.machine import instruction_sets
from benchmarks.speed.pairing import Spread, interleaved, paired_ratios, power_law
from benchmarks.speed.plot import speed_plot
from benchmarks.speed.rows import Asked, Figure, Row, not_installed, table
from benchmarks.speed.serving import new_tokens

FAKE = "tests.benchmarks.fake_engine"


def test_contestants_take_turns_and_the_first_changes() -> None:
    order: list[tuple[str, int]] = []

    def contestant(name: str):
        def run(number: int) -> int:
            order.append((name, number))
            return 10 * number

        return run

    found = interleaved({"a": contestant("a"), "b": contestant("b")}, 3)
    assert order == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert found == {"a": [0, 10, 20], "b": [0, 10, 20]}


def test_ratios_are_taken_before_they_are_averaged() -> None:
    """The machine halves its pace in round two: both medians are of different rounds, every ratio is 2."""
    fast, slow = [100.0, 50.0, 80.0], [50.0, 25.0, 40.0]
    assert paired_ratios(fast, slow) == [2.0, 2.0, 2.0]
    with pytest.raises(ValueError):
        paired_ratios(fast, slow[:2])


@pytest.mark.parametrize("exponent", [0.9, 1.0, 2.0])
def test_the_exponent_of_a_power_law_lies_in_its_interval(exponent: float) -> None:
    sizes = np.repeat([1_000, 3_000, 10_000, 30_000, 100_000], 5)
    seconds = 3e-4 * sizes**exponent * np.exp(np.random.default_rng(1).normal(0, 0.05, len(sizes)))
    fit = power_law(sizes.tolist(), seconds.tolist())
    assert fit.low < exponent < fit.high
    assert fit.high - fit.low < 0.05 and fit.low < fit.exponent < fit.high


def test_more_is_faster_for_rates_and_less_for_times() -> None:
    rates = Figure("a", "tokens/s", [30.0]), Figure("b", "tokens/s", [10.0])
    times = Figure("a", "ms a text", [30.0]), Figure("b", "ms a text", [10.0])
    assert rates[0].times_as_fast_as(rates[1]) == [3.0]
    assert times[0].times_as_fast_as(times[1]) == pytest.approx([1 / 3])
    with pytest.raises(ValueError):
        rates[0].times_as_fast_as(times[0])


def test_what_is_asked_is_held_against_the_median() -> None:
    ours, other = Figure("ours", "tokens/s", [10.0, 40.0, 41.0]), Figure("other", "tokens/s", [10.0, 10.0, 10.0])
    row = Row("a", ours, other, Asked("ratio", "≥", 4.0))
    assert row.ratio == Spread(4.0, 1.0, 4.1) and row.met is True
    assert Row("a", ours, other, Asked("ratio", "≥", 4.05)).met is False
    assert Row("a", Figure("ours", "ms a text", [61.0]), asked=Asked("figure", "≤", 60)).met is False
    assert Row("a", ours, other).met is None
    assert not_installed("a", "some-package").met is None


def test_rates_are_of_the_part_that_was_asked_for() -> None:
    run = {"tokens": 100, "seconds": 4.0, "decoding_tokens": 90, "decoding_seconds": 3.0}
    quicker = {**run, "decoding_seconds": 1.5}
    row = versus("a", {"x": [quicker], "y": [run]}, part="decoding_")
    assert row.first is not None and row.first.values == [60.0]
    assert row.ratio is not None and row.ratio.median == 2.0
    whole = versus("a", {"x": [quicker], "y": [run]})
    assert whole.ratio is not None and whole.ratio.median == 1.0


def test_the_table_tells_everything_in_columns() -> None:
    rows = [
        Row("ours / other", Figure("ours", "tokens/s", [40.0]), Figure("other", "tokens/s", [10.0]), Asked("ratio", "≥", 5.0)),
        not_installed("ours / absent", "some-package"),
    ]
    lines = table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1 and len({line.count("|") for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].split("|")[1:7]] == [
        "ours / other",
        "ours 40 tokens/s",
        "other 10 tokens/s",
        "4 (4 … 4)",
        "≥ 5×",
        "NO",
    ]
    assert "not installed: pip install some-package" in lines[3]


def test_rows_become_json_with_every_round() -> None:
    row = Row("a", Figure("x", "ms a text", [1.0, 2.0, 4.0]), Figure("y", "ms a text", [2.0, 2.0, 2.0]), detail={"points": [[1, 2]]})
    content = json.loads(json.dumps(row.as_json()))
    assert content["figures"][0]["values"] == [1.0, 2.0, 4.0]
    assert content["times_as_fast"] == {"median": 1.0, "low": 0.5, "high": 2.0}
    assert content["points"] == [[1, 2]]


def test_a_plot_is_drawn_of_what_there_is(tmp_path: Path) -> None:
    ratio = Row("a", Figure("x", "tokens/s", [3.0, 4.0]), Figure("y", "tokens/s", [1.0, 1.0]), Asked("ratio", "≥", 5.0))
    growth = Row("b", Figure("exponent", "", [1.0]), detail={"points": [[1000, 0.3], [10000, 3.1]]})
    for name, rows in {"both": [ratio, growth], "one": [ratio], "other": [growth]}.items():
        speed_plot(rows, tmp_path / name / "speed.png")
        assert (tmp_path / name / "speed.png").read_bytes().startswith(b"\x89PNG")
    speed_plot([not_installed("a", "some-package")], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_instruction_sets_are_those_of_the_first_processor() -> None:
    cpuinfo = (
        "processor\t: 0\nmodel name\t: avx512f in its name\nflags\t\t: fpu sse avx2 avx512_vnni\n\nprocessor\t: 1\nflags\t\t: avx512_bf16\n"
    )
    assert instruction_sets(cpuinfo) == ["avx2", "avx512_vnni"]
    assert instruction_sets("") == []


def test_tokens_of_a_stream() -> None:
    events = b'event: piece\ndata: {"text": "a"}\n\nevent: result\ndata: {"usage": {"new_tokens": 17}}\n\nevent: done\ndata: {}\n\n'
    assert new_tokens(events) == 17
    with pytest.raises(RuntimeError, match="broke off"):
        new_tokens(events[:30])


def test_measures_are_chosen_by_name() -> None:
    assert chosen("service, marking") == ["service", "marking"]
    with pytest.raises(argparse.ArgumentTypeError, match="typo; there are marking"):
        chosen("marking,typo")


def test_a_contestant_works_in_its_turn_only_and_may_print() -> None:
    with Contestant(FAKE, {"factor": 3}, 1) as contestant:
        process = psutil.Process(contestant("pid"))
        for number in (1, 2):
            assert contestant("times", number=number) == 3 * number
            _wait_for(process, psutil.STATUS_STOPPED)
    assert not process.is_running()


def test_a_contestant_that_dies_says_why() -> None:
    with Contestant(FAKE, {"factor": 3}, 1) as contestant, pytest.raises(RuntimeError, match="unsupported operand"):
        contestant("times", number={})


def test_an_optional_library_that_is_missing_is_named(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare")
    bench = Bench(QUICK, 1, tmp_path, textseal_python=str(tmp_path / "bare" / "bin" / "python"))
    with bench.contest("textseal") as (present, absent):
        assert present == {} and absent == {"textseal": "torch"}


def _wait_for(process: psutil.Process, status: str) -> None:
    deadline = time.monotonic() + 10
    while process.status() != status:
        assert time.monotonic() < deadline, process.status()
        time.sleep(0.01)
