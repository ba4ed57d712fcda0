"""Attacks by programs outside Python."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import fake_lm, fake_tokenizer
from watermark.errors import InvalidInput
from watermark.evaluation.attacks import Materials, attack, programs

TEXT = "The teacher read a long letter to the children. They listened quietly, and nobody spoke."
needs_apertium = pytest.mark.skipif(shutil.which("apertium") is None, reason="the program apertium is not installed")


def run(name: str, text: str, code: str = "") -> str:
    return attack(name, Materials(paraphraser=[sys.executable, "-c", code]))(text, np.random.default_rng(0))


@needs_apertium
def test_round_trip_rewrites_english() -> None:
    result = run("round-trip-spanish", TEXT)
    assert result != TEXT and result == run("round-trip-spanish", TEXT)
    assert {"read", "long", "letter"} <= set(result.split()) and len(result.split()) == pytest.approx(len(TEXT.split()), abs=4)


@needs_apertium
def test_round_trip_keeps_layout_and_survives_anything() -> None:
    result = run("round-trip-spanish", "  First house.\n\nSecond [house] costs 5$ ^ @ {x} \\ / <b> * ~ frobnicated.\nThird house.\n")
    assert result.startswith("  ") and result.endswith("\n") and result.count("\n") == 4 and result.count("\n\n") == 1
    assert all(sign in result for sign in ("[", "]", "$", "^", "@", "{", "}", "\\", "/", "<b>", "~", "frobnicated"))
    for text in ("", " \n", "word", "...", "a\0b", "日本語の文章です。", "🙂 👩‍🚀", "\ud800 x", "x" * 20_000, "^dog<n>$ [[t:b:1]]"):
        assert isinstance(run("round-trip-spanish", text), str)


def test_missing_apertium_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    programs.check_apertium.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InvalidInput, match="apt-get install apertium apertium-eng-spa"):
        attack("round-trip-spanish", Materials())


def test_paraphraser_reads_and_prints_utf8() -> None:
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read() + ' – süß\\n'.encode())"
    assert run("paraphrase", "你好 \ud800", code) == "你好 ? – süß"
    assert run("paraphrase", " ", code) == " "


@pytest.mark.parametrize(
    "code,message",
    [
        ("import sys; sys.exit('no such model')", "exit status 1: no such model"),
        ("import os; os._exit(3)", "exit status 3: it said nothing"),
        ("import sys; sys.stdout.buffer.write(bytes([255]))", "not UTF-8"),
        ("import time; time.sleep(60)", "more than 1 seconds"),
    ],
)
def test_failures_are_said(monkeypatch: pytest.MonkeyPatch, code: str, message: str) -> None:
    monkeypatch.setattr(programs, "TIMEOUT", 1.0)
    with pytest.raises(InvalidInput, match=message):
        run("paraphrase", TEXT, code)


def test_a_paraphraser_that_cannot_be_run_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="--paraphraser"):
        attack("paraphrase", Materials())
    with pytest.raises(InvalidInput, match="no-such-program"):
        attack("paraphrase", Materials(paraphraser=["no-such-program"]))


def save_model(folder: Path, chat_template: str | None) -> Path:
    lm = fake_lm()
    lm.model.save_pretrained(folder)
    tokenizer = fake_tokenizer()
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    return folder


def test_paraphrase_by_a_model_in_a_folder(tmp_path: Path) -> None:
    """A random model writes nonsense; the same nonsense for the same seed, and never the instruction or the text."""
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    folder = save_model(tmp_path / "instruct", template)
    paraphrases = [attack("paraphrase", Materials(paraphraser=[str(folder)]))(TEXT, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert paraphrases[0] == paraphrases[1] != paraphrases[2]
    assert TEXT not in paraphrases[0] and len(paraphrases[0]) <= 2 * len(TEXT) + 17


def test_a_folder_without_an_instruct_model_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no model that can be loaded"):
        attack("paraphrase", Materials(paraphraser=[str(tmp_path)]))
    with pytest.raises(InvalidInput, match="no chat template"):
        attack("paraphrase", Materials(paraphraser=[str(save_model(tmp_path / "base", None))]))
