"""Reading past invisible characters and lookalikes, without touching what belongs to a script."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from watermark.evaluation.attacks import Materials, attack
from watermark.normalise import normalise

ENGLISH = "I saw a quick brown fox jump over the lazy dog; Zoë’s café – “it’s NEXT to My Office” – opened at six. A cow ate it all."
ORDINARY = [
    ENGLISH,
    "plain ASCII\t\x00 and\nmore",
    "Größe, Fuß und „süße“ Äpfel – naïve Façade; l’œuvre d’Étienne… Où ça ?",
    "Привет, мир! А он сказал: «сор и хор», ко́шка и ёж. В 20 кВт.",
    "The preposition с means with; the word «сор» means litter, as in «а у нас сор».",
    "Η γλώσσα είναι ωραία και ο νόμος, αν όχι το παν. ΑΒΓ",
    "where ρgh and σx are small, γ-ray, νe, 20 µm, Δt, 𝑥 ∈ ℝ, H₂O, 5ª",
    "我用ＡＢＣ公司的产品　你好，世界！ＪＲ 東日本。葛\U000e0100城市",
    "अनुवाद क्षेत्र हिन्दी र्‍य क्‌ष",
    "می‌خواهم کتاب‌ها السلام عليكم \u200fabc\u200f ٣",
    "ภาษา\u200bไทย ភាសា\u200bខ្មែរ",
    "❤️‍🔥 👩‍🚀 👨🏽‍🤝‍👨🏻 1️⃣ #️⃣ ☕️ ℹ️ ‼️ ↔️ 🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f 🇩🇪",
    "",
]
# Characters that the rules speak of, so that random texts meet them.
HOSTILE = st.text(
    st.sampled_from(
        "ab I\u00a0аорсЖ αοσΩ 𝗮ＡℝℹՕᎪ一ا क\u0301ก❤🔥🏴1.\u20e3\u200b\u200c\u200d\u200e\u202e\ufe0f\U000e0100\U000e0067\U000e007f\u3164"
    )
)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_its_own_normal_form(text: str) -> None:
    found = normalise(text)
    assert found.text == text and list(found.origins) == list(range(len(text) + 1))


@given(st.one_of(st.text(), HOSTILE))
@example("а\U0001d5ee\U0001d5ee")
def test_idempotent_with_a_rising_map_to_equal_or_exchanged_characters(text: str) -> None:
    found = normalise(text)
    assert normalise(found.text).text == found.text
    assert len(found.origins) == len(found.text) + 1 and found.origins[-1] == len(text)
    assert all(a < b for a, b in zip(found.origins, found.origins[1:], strict=False))
    exchanged = [(text[i], c) for i, c in zip(found.origins, found.text, strict=False) if text[i] != c]
    assert all(c == " " or (c.isascii() and c.isalpha() and c.isupper() == before.isupper()) for before, c in exchanged)


@pytest.mark.parametrize("name", ["zero-width-10", "zero-width-99", "homoglyphs-5", "homoglyphs-30", "homoglyphs-99"])
def test_undoes_the_attacks(name: str) -> None:
    for seed in range(20):
        dirty = attack(name, Materials())(ENGLISH, np.random.default_rng(seed))
        assert dirty != ENGLISH and normalise(dirty).text == ENGLISH


@pytest.mark.parametrize(
    "dirty,clean",
    [
        ("co\u00adop\u2060er\ufeffate\u034f d", "cooperate d"),
        ("a\u00a0b\u2009c\u202fd\u3000e", "a b c d\u3000e"),
        ("\u202eevil\u202c \u2066text\u2069", "evil text"),
        ("x\U000e0100\U000e0101y 😀\U000e0100\U000e0101\U000e0102", "xy 😀\U000e0100"),
        ("🏴\U000e0068\U000e0069", "🏴"),
        ("a\u200db ❤\u200b\ufe0f\u200d\u200d🔥", "ab ❤\ufe0f\u200d🔥"),
        ("𝗛𝗲𝗹𝗹𝗼 𝗮 𝘄𝗼𝗿𝗹𝗱", "Hello a world"),
        ("Ｈｅｌｌｏ ｗｏｒｌｄ", "Hello world"),
        ("thе сор а сow", "the cop a cow"),
        ("thе words «а сор уже» stay", "the words «а сор уже» stay"),
        ("Яндекc и Яндекс", "Яндекc и Яндекс"),
        ("αn wοrd ρressure", "an word pressure"),
    ],
)
def test_what_is_read_past(dirty: str, clean: str) -> None:
    assert normalise(dirty).text == clean


def test_spans_point_into_the_original() -> None:
    dirty = "\u200bhe\u200bll\u200b\u200bo w\u00adorld\u200b"
    found = normalise(dirty)
    assert found.text == "hello world"
    assert [dirty[slice(*span)] for span in found.original_spans([(0, 5), (0, 1), (6, 11), (5, 5)])] == [
        "he\u200bll\u200b\u200bo",
        "h",
        "w\u00adorld",
        "",
    ]


@pytest.mark.parametrize(
    "unit", ["\u200b", "a\u200b", "a\u202e", "аb", "а ", "а b ", "𝗮𝗮 ", "ا\u200c", "❤\ufe0f\u200d", "🏴\U000e0067", "\u3164", "a\u0301а"]
)
def test_a_million_hostile_characters(unit: str) -> None:
    text = (unit * 1_000_000)[:1_000_000]
    started = time.process_time()
    normalise(text)
    assert time.process_time() - started < 20


def test_many_different_selectors_in_one_run() -> None:
    text = "".join(chr(0xE0000 + i % 0x1000) for i in range(1_000_000))
    started = time.process_time()
    assert normalise(text).text == ""
    assert time.process_time() - started < 10
