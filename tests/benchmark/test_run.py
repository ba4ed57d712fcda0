"""A whole benchmark with the fake model and the real watermarks of transformers; only the model's weights mean nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import LETTERS, fake_lm, fake_watermarked_model
from watermark.benchmark.kgw import kgw
from watermark.benchmark.methods import Method
from watermark.benchmark.ours import Ours
from watermark.benchmark.page import page, publish, published
from watermark.benchmark.run import run_benchmark
from watermark.benchmark.settings import BenchmarkSettings, Scale
from watermark.benchmark.synthid import synthid
from watermark.errors import Cancelled, InvalidInput

NOUNS = ("river", "engine", "garden", "letter", "market", "teacher", "window")
SCALE = Scale(
    n=6,
    lengths=(16, 60),
    human=100,
    attacks=("delete-10", "copy-paste-50"),
    quality=4,
    diversity=(2, 3),
    payload=3,
    peers=("kgw", "synthid"),
)


def sentence(i: int) -> str:
    return f"The {NOUNS[i % 7]} near the {NOUNS[i // 7 % 7]} was older than anyone had thought, number {i}."


def make_settings(folder: Path) -> BenchmarkSettings:
    prompts = [{"prompt": sentence(i), "human": sentence(i + 100) * 3, "source": "s"} for i in range(10)]
    rng = np.random.default_rng(0)
    human = [{"text": "".join(rng.choice(LETTERS, 90)), "source": "h"} for _ in range(110)]
    for name, records in (("prompts", prompts), ("human", human)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return BenchmarkSettings((folder / "prompts.jsonl",), folder / "human.jsonl", folder / "out", "small", SCALE, batch_size=5)


def methods() -> list[Method]:
    model = fake_watermarked_model()
    return [Ours(model, "digest", 0), kgw(model.lm), synthid(model.lm)]


def run(settings: BenchmarkSettings, **changes: Any) -> dict[str, Any]:
    arguments = {"judge": fake_lm(), "command": "countersign benchmark", "progress": lambda *_: None, **changes}
    chosen = arguments.pop("methods", None) or methods()
    return run_benchmark(chosen, fake_watermarked_model().lm, settings, **arguments)


@dataclass(frozen=True)
class Finished:
    settings: BenchmarkSettings
    report: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One whole run, for all tests that only read its results."""
    settings = make_settings(tmp_path_factory.mktemp("benchmark"))
    return Finished(settings, run(settings, independent=("another", fake_lm(seed=1))))


@pytest.fixture
def settings(tmp_path: Path) -> BenchmarkSettings:
    return make_settings(tmp_path)


def test_every_cell_of_every_method_is_there(finished: Finished) -> None:
    report = finished.report
    assert list(report["methods"]) == ["fake-untrained", "kgw", "synthid"] and report["default"] == "fake-untrained"
    wanted = {("marked", attack, length) for attack in ("clean", *SCALE.attacks) for length in SCALE.lengths}
    wanted |= {("unmarked", "clean", length) for length in SCALE.lengths}
    for method in report["methods"].values():
        for rate in (0.01, 0.001):
            cells = [cell for cell in method["detection"] if cell["rate"] == rate]
            assert {(c["condition"], c["attack"], c["length"]) for c in cells} == wanted and len(cells) == len(wanted)
            for cell in cells:
                assert cell["n"] == 6 and cell["interval"][0] <= cell["share"] == cell["detected"] / 6 <= cell["interval"][1]
                assert cell["threshold_range"][0] <= cell["share"] <= cell["threshold_range"][1]
        assert all(cell["measured_rate"] <= cell["rate"] and cell["n"] == 100 for cell in method["thresholds"])
        assert len(method["quality"]) == 2 and method["quality"][0]["n"] == 4 and method["similarity"]["n"] == 4
        assert method["timing"]["detection_seconds"] > 0 and len(method["timing"]["ratios"]) == 3
        assert method["diversity"]["prompts"] == 2 and method["diversity"]["continuations"] == 3
    assert {name: bool(m["payload"]) for name, m in report["methods"].items()} == {"fake-untrained": True, "kgw": False, "synthid": False}
    assert set(report["independent_perplexity"]) == {"unmarked", "fake-untrained", "kgw", "synthid"}


def test_peers_with_real_detectors_find_their_marks(finished: Finished) -> None:
    for name in ("kgw", "synthid"):
        cells = finished.report["methods"][name]["detection"]
        found = {(c["condition"], c["attack"], c["length"]): c["share"] for c in cells if c["rate"] == 0.01}
        assert found["marked", "clean", 60] > 0.6 > 0.4 > found["unmarked", "clean", 60]


def test_the_page_says_everything_of_the_report(finished: Finished, tmp_path: Path) -> None:
    path = tmp_path / "docs" / "evidence.md"
    path.parent.mkdir()
    publish(finished.settings.out, path)
    shown = path.read_text()
    assert shown == published(path) == page(finished.report, images="evidence/")
    assert {p.name for p in (tmp_path / "docs" / "evidence").iterdir()} == {"report.json", "detection.png", "quality.png"}
    for expected in (
        "KGW lefthash (transformers)",
        "SynthID (transformers)",
        "copy-paste-50",
        "seed 0",
        "countersign benchmark",
        "another",
    ):
        assert expected in shown
    assert (finished.settings.out / "report.md").read_text() == page(finished.report)


def test_an_interrupted_run_goes_on_and_ends_the_same(finished: Finished, settings: BenchmarkSettings) -> None:
    stages: list[str] = []

    def interrupt(stage: str, done: float, total: float, words: str = "") -> None:
        stages.append(stage)
        if len(stages) % 7 == 0 and len(stages) < 60:
            raise Cancelled("enough")

    for _ in range(40):
        try:
            report = run(settings, progress=interrupt, independent=("another", fake_lm(seed=1)))
            break
        except Cancelled:
            with (settings.out / "work" / "unmarked" / "texts.jsonl").open("a") as stream:
                stream.write('{"number": 1, "tok')  # as a killed process leaves it
    else:
        raise AssertionError("the run never ended")
    for name, method in finished.report["methods"].items():
        for part in ("detection", "thresholds", "payload", "diversity"):
            assert report["methods"][name][part] == method[part], (name, part)


def test_methods_can_be_added_and_nothing_is_done_twice(settings: BenchmarkSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other, _ = methods()
    run(settings, methods=[ours])

    def never(*_: object, **__: object) -> None:
        raise AssertionError("this was on record")

    monkeypatch.setattr(ours, "write", never)
    monkeypatch.setattr(ours, "write_with", never)
    monkeypatch.setattr(ours, "__call__", never)
    assert list(run(settings, methods=[ours, other])["methods"]) == ["fake-untrained", "kgw"]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"temperature": 0.5}, {"scale": replace(SCALE, n=5)}, {"scale": replace(SCALE, lengths=(16,))}]
)
def test_other_settings_do_not_mix_with_old_texts(finished: Finished, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="earlier run with other settings"):
        run(replace(finished.settings, **change))


def test_another_checkpoint_of_the_same_name_is_refused(finished: Finished) -> None:
    with pytest.raises(InvalidInput, match=r"other settings \(method\)"):
        run(finished.settings, methods=[Ours(fake_watermarked_model(), "another digest", 0)])


@pytest.mark.parametrize(
    "change,message",
    [
        ({"n": 0}, "n must be"),
        ({"lengths": (5,)}, "lengths"),
        ({"human": 99}, "human texts"),
        ({"attacks": ("clean",)}, "always measured"),
        ({"attacks": ("rephrase",)}, "Unknown attack"),
        ({"peers": ("nobody",)}, "Unknown peer"),
        ({"quality": 7}, "quality"),
    ],
)
def test_bad_scales_fail_before_any_work(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(SCALE, **change)
