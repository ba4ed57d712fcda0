from __future__ import annotations

import random

import pytest

from watermark.sampling.text_stream import TextStream


def by_bytes(ids: list[int]) -> str:
    """A tokenizer with one token per byte."""
    return bytes(ids).decode("utf-8", errors="replace")


def run(text: str, stop: tuple[str, ...] = ()) -> tuple[TextStream, list[str]]:
    stream, ids, pieces = TextStream(by_bytes, stop), list(text.encode()), []
    for count in range(1, len(ids) + 1):
        pieces.append(stream.push(ids[:count], last=count == len(ids)))
        if stream.stopped:
            break
    return stream, pieces


@pytest.mark.parametrize("text", ["plain words", "naïve Ω 𝄞 🙂 end", "🙂", "x"])
def test_pieces_add_up_and_hold_no_half_characters(text):
    stream, pieces = run(text)
    assert "".join(pieces) == stream.text == text
    assert all("\ufffd" not in piece for piece in pieces)


def test_a_text_that_ends_inside_a_character_is_handed_out_as_it_is():
    stream = TextStream(by_bytes)
    ids = list("ab🙂".encode())[:4]
    assert stream.push(ids) == "ab" and stream.push(ids, last=True) == "\ufffd" == stream.text[2:]


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one\n\ntwo", ("\n\n",), "one"),
        ("one\ntwo", ("\n\n",), "one\ntwo"),
        ("ENDless", ("END",), ""),
        ("a b c", ("c", "b"), "a "),  # the first that appears, not the first that is named
        ("aab", ("ab",), "a"),
        ("never", ("x", "yz"), "never"),
        ("ends with part of a st", ("stop",), "ends with part of a st"),
        ("schön ß", ("ö",), "sch"),
    ],
)
def test_the_text_ends_before_the_stop_string(text, stop, expected):
    stream, pieces = run(text, stop)
    assert "".join(pieces) == stream.text == expected
    assert stream.stopped is (expected != text)


def test_random_texts_and_stops_whatever_the_tokens():
    rng = random.Random(3)
    for _ in range(300):
        text = "".join(rng.choice("ab") for _ in range(30))
        stop = tuple("".join(rng.choice("ab") for _ in range(rng.randint(1, 5))) for _ in range(rng.randint(0, 3)))
        stream, ids, pieces, at = TextStream(by_bytes, stop), list(text.encode()), [], 0
        while at < len(ids) and not stream.stopped:
            at = min(len(ids), at + rng.randint(1, 4))
            pieces.append(stream.push(ids[:at], last=at == len(ids)))
        complete = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
        assert "".join(pieces) == stream.text == (text[: min(complete)[1]] if complete else text)
