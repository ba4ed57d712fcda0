from __future__ import annotations

import random

import pytest

from watermark.sampling.text_stream import WINDOW, TextStream


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


LONG = "naïve Ω 𝄞 🙂 日本語のテキスト, and plain words. " * 12


def test_a_long_text_is_decoded_by_its_latest_tokens():
    sizes = []

    def decode(ids: list[int]) -> str:
        sizes.append(len(ids))
        return by_bytes(ids)

    stream, ids = TextStream(decode), list(LONG.encode())
    for count in range(1, len(ids)):
        stream.push(ids[:count])
        assert stream.text == by_bytes(ids[:count])
    assert stream.push(ids, last=True) and stream.text == LONG
    assert max(sizes[:-1]) <= 3 * WINDOW and len(ids) > 10 * WINDOW


def test_it_reads_like_the_whole_whatever_a_tokenizer_does_at_a_beginning():
    """One that drops a space there, as SentencePiece's do, and one that writes words apart."""
    words = [" " * (i % 3 > 0) + word for i, word in enumerate(LONG.split())]
    for decode in (
        lambda ids: "".join(words[i] for i in ids).removeprefix(" "),
        lambda ids: " ".join(words[i].strip() for i in ids).replace(" ,", ","),
    ):
        stream, ids = TextStream(decode), list(range(len(words)))
        for count in range(1, len(ids) + 1):
            stream.push(ids[:count])
            assert stream.text == decode(ids[:count])


def test_a_tokenizer_that_rewrites_its_past_is_decoded_anew():
    def decode(ids: list[int]) -> str:
        text = "".join(chr(97 + i % 26) for i in ids)
        return text.upper() if 150 in ids else text

    stream, ids = TextStream(decode), list(range(152))
    pieces = [stream.push(ids[:count]) for count in range(1, 153)]
    assert "".join(pieces) == stream.text == decode(ids[:150]) + decode(ids)[150:]
