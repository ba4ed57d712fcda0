"""A whole evaluation with the fake model: real prompts, generation, verification and report; only the weights mean nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import fake_lm, fake_watermarked_model
from watermark.errors import Cancelled, InvalidInput
from watermark.evaluation.generation import KEYS, WorkFolder, evaluation_keys
from watermark.evaluation.run import EvaluationSettings, run_evaluation

NOUNS = ("river", "engine", "garden", "letter", "market", "teacher", "window")


def sentence(i: int) -> str:
    return f"The {NOUNS[i % 7]} near the {NOUNS[i // 7 % 7]} was older than anyone had thought, number {i}."


def make_settings(tmp_path: Path) -> EvaluationSettings:
    for name, first in (("a", 0), ("b", 20)):
        records = [{"prompt": sentence(i), "human": sentence(i + 100) * 3, "source": name} for i in range(first, first + 8)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return EvaluationSettings(
        prompts=(tmp_path / "a.jsonl", tmp_path / "b.jsonl"),
        out=tmp_path / "out" / "report.json",
        attacks=("delete-30", "substitute-10", "copy-paste-50"),
        n=12,
        lengths=(16, 128),
        batch_size=8,
    )


@pytest.fixture
def settings(tmp_path: Path) -> EvaluationSettings:
    return make_settings(tmp_path)


@dataclass(frozen=True)
class Finished:
    settings: EvaluationSettings
    report: dict[str, Any]
    stages: list[str]

    @property
    def texts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.settings.out.with_suffix(".work") / "texts.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One whole run, for all tests that only read its results."""
    settings, stages = make_settings(tmp_path_factory.mktemp("finished")), []
    report = run_evaluation(
        fake_watermarked_model(), settings, judge=fake_lm(), command="countersign evaluate", progress=lambda s, d, t: stages.append(s)
    )
    return Finished(settings, report, stages)


def cells(report: dict[str, Any]) -> dict[tuple[int, str, str], dict[str, Any]]:
    return {(c["length"], c["condition"], c["attack"]): c for c in report["detection"]}


def test_report(finished: Finished) -> None:
    report, out = finished.report, finished.settings.out
    assert json.loads(out.read_text()) == json.loads(json.dumps(report))
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert list(dict.fromkeys(finished.stages)) == ["generating", "verifying", "measuring perplexity"]

    found = cells(report)
    attacks = ["clean", "copy-paste-50", "delete-30", "substitute-10"]
    wanted = [*(("marked", name) for name in attacks), ("unmarked", "clean"), ("human", "clean")]
    assert list(found) == [(length, *cell) for length in (16, 128) for cell in wanted]
    for (length, condition, attack), cell in found.items():
        assert cell["n"] == 12 and cell["share"] == cell["detected"] / 12
        assert cell["interval"][0] <= cell["share"] <= cell["interval"][1]
        assert sum(n for _, n in cell["by_source"].values()) == 12 and set(cell["by_source"]) == {"a", "b"}
        assert (cell["mean_marked_token_share"] is None) == (condition != "marked" or length == 16)
        if (condition, attack) == ("human", "clean"):
            assert cell["mean_tokens"] == length
    # Even an untrained pair is a matched filter: with room for it, the mark is seen, and nothing is where none was written.
    assert found[128, "marked", "clean"]["median_p"] < 0.05 < found[128, "unmarked", "clean"]["median_p"]

    for cell in report["quality"]:
        perplexity = cell["perplexity"]
        assert perplexity["ratio"] == pytest.approx(perplexity["marked"] / perplexity["unmarked"])
        assert perplexity["interval"][0] < perplexity["ratio"] < perplexity["interval"][1]
        assert 0.0 <= cell["repeated_trigrams"]["unmarked"] <= 1.0
    similarity = report["similarity"]
    assert similarity["n"] == 12 and similarity["tokens"] == 100 and -1.0 <= similarity["marked"] <= 1.0


def test_texts_have_the_asked_length_and_pairs_share_the_seed(finished: Finished) -> None:
    texts = finished.texts
    assert len(texts) == 12 * 2, "only the longest are written"
    assert all(len(text["token_ids"]) == text["length"] == 128 for text in texts)
    seeds = {(t["length"], t["number"], t["seed"]) for t in texts}
    assert len(seeds) == 12 == len({seed for *_, seed in seeds})
    marked = {(t["length"], t["number"]): t["text"] for t in texts if t["marked"]}
    assert any(t["text"] != marked[t["length"], t["number"]] for t in texts if not t["marked"])


def test_an_interrupted_run_goes_on_and_ends_the_same(
    finished: Finished, settings: EvaluationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fake_watermarked_model()

    def interrupt(stage: str, done: float, total: float) -> None:
        if done > 12:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run_evaluation(model, settings, judge=fake_lm(), progress=interrupt)
    assert not settings.out.exists()
    kept = settings.out.with_suffix(".work") / "texts.jsonl"
    assert len(kept.read_text().splitlines()) == 8
    with kept.open("a") as stream:
        stream.write('{"length": 128, "num')  # as a killed process leaves it
    sizes: list[int] = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda requests, **options: sizes.append(len(requests)) or generate(requests, **options))
    resumed = run_evaluation(model, settings, judge=fake_lm())
    assert sum(sizes) == 24 - 8
    assert resumed["detection"] == finished.report["detection"]
    for one, other in zip(resumed["quality"], finished.report["quality"], strict=True):
        assert one["perplexity"]["ratio"] == pytest.approx(other["perplexity"]["ratio"], rel=1e-6)


def test_scoring_again_generates_nothing(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, first, out = fake_watermarked_model(), finished.report, tmp_path / "report.json"
    shutil.copytree(finished.settings.out.with_suffix(".work"), out.with_suffix(".work"))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing was to be generated")

    monkeypatch.setattr(model, "generate", never)
    again = run_evaluation(model, replace(finished.settings, out=out, attacks=("lower-case",), false_positive_rate=0.5), judge=fake_lm())
    assert cells(again)[128, "marked", "lower-case"]["n"] == 12
    before, after = cells(first)[128, "marked", "clean"], cells(again)[128, "marked", "clean"]
    assert after["median_p"] == before["median_p"] and after["detected"] >= before["detected"]
    assert again["quality"] == first["quality"]


def test_other_settings_do_not_mix_with_old_texts(settings: EvaluationSettings) -> None:
    model = fake_watermarked_model()
    small = replace(settings, n=2, lengths=(16,), attacks=())
    run_evaluation(model, small, judge=fake_lm())
    with pytest.raises(InvalidInput, match=r"other settings \(temperature\)"):
        run_evaluation(model, replace(small, temperature=0.5), judge=fake_lm())
    assert run_evaluation(model, replace(small, n=3), judge=fake_lm())["settings"]["n"] == 3  # more of the same is fine


def test_separate_human_passages(settings: EvaluationSettings, tmp_path: Path) -> None:
    path = tmp_path / "human.jsonl"
    records = [{"text": "too short", "source": "x"}, *({"text": sentence(i) * 2, "source": "web", "id": str(i)} for i in range(6))]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    report = run_evaluation(fake_watermarked_model(), replace(settings, human=path, lengths=(32,), attacks=()), judge=fake_lm())
    cell = cells(report)[32, "human", "clean"]
    assert cell["by_source"].keys() == {"web"} and cell["n"] == 6  # as many as there are, and the report says how many


def test_keys_are_many_and_follow_from_the_seed() -> None:
    keys = evaluation_keys(3)
    assert len({key.secret for key in keys}) == KEYS == len({key.name for key in keys})
    assert evaluation_keys(3) == keys
    assert evaluation_keys(4)[0].secret != keys[0].secret


def test_no_secret_in_anything_written(finished: Finished) -> None:
    written = b"".join(path.read_bytes() for path in finished.settings.out.parent.rglob("*") if path.is_file())
    assert not any(key.secret.hex().encode() in written or key.secret in written for key in evaluation_keys(finished.settings.seed))


@pytest.mark.parametrize(
    "change,message",
    [
        ({"prompts": ()}, "prompts"),
        ({"n": 0}, "n must be"),
        ({"lengths": ()}, "lengths"),
        ({"lengths": (0,)}, "lengths"),
        ({"attacks": ("rephrase",)}, "Unknown attack"),
        ({"attacks": ("paraphrase",)}, "instruct model, or a command"),
        ({"attacks": ("paraphrase",), "paraphraser": ("no-such-program",)}, "no-such-program"),
        ({"out": Path("report.txt")}, ".json"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_fail_before_any_work(settings: EvaluationSettings, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(settings, **change)


def test_work_folder_keeps_whole_records(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "w", {"a": [1, 2]})
    work.append("x.jsonl", [{"i": 1}, {"i": "ü\n\u2028"}])
    assert WorkFolder(tmp_path / "w", {"a": (1, 2)}).read("x.jsonl") == [{"i": 1}, {"i": "ü\n\u2028"}]
    work.replace("x.jsonl", [{"i": 3}])
    assert work.read("x.jsonl") == [{"i": 3}] and work.read("none.jsonl") == []
