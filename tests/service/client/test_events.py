"""Server-sent events, however the network cuts them up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from hypothesis import given
from hypothesis import strategies as st

from service.client import ConnectionFailed, ProblemError, UnexpectedAnswer
from service.client.events import EventReader
from service.schemas.common import Timings
from service.schemas.generate import Piece, StreamEnd
from service.schemas.problem import Problem

END = StreamEnd(id="r", model="m", checkpoint="c", timings=Timings(waited_seconds=0, first_token_seconds=0, worked_seconds=0))


def frame(event: str, data: Piece | StreamEnd | Problem) -> bytes:
    return format_sse_event(event=event, data_str=data.model_dump_json())


@given(
    texts=st.lists(st.text() | st.sampled_from(["\n\n", "\r\n", "\u2028\u2029\x85", "data: x", "é𝄞"]), max_size=5),
    cuts=st.lists(st.integers(0, 2000), max_size=20),
)
def test_any_text_in_any_pieces_comes_out_whole(texts: list[str], cuts: list[int]) -> None:
    pieces = [Piece(index=0, text=text, tokens=n) for n, text in enumerate(texts)]
    wire = b"".join(KEEPALIVE_COMMENT + frame("piece", piece) for piece in pieces) + frame("done", END)
    bounds = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    reader = EventReader(None)
    read = [event for a, b in pairwise(bounds) for event in reader.feed(wire[a:b])]
    reader.end()
    assert read == [*pieces, END]


def test_a_stream_without_its_end_is_broken() -> None:
    reader = EventReader(None)
    assert len(list(reader.feed(frame("piece", Piece(index=0, text="x", tokens=1)) + frame("done", END)[:-1]))) == 1
    with pytest.raises(ConnectionFailed, match="broke off"):
        reader.end()


def test_the_services_own_error() -> None:
    about = {"type": "t", "title": "t", "status": 503, "detail": "The worker stopped.", "instance": "/generate"}
    body = Problem.model_validate({**about, "code": "worker_died", "item": 2})
    with pytest.raises(ProblemError) as error:
        list(EventReader("req-1").feed(frame("error", body)))
    assert (error.value.status, error.value.code, error.value.item, error.value.request_id) == (503, "worker_died", 2, "req-1")


@pytest.mark.parametrize("wire", [b"event: surprise\ndata: {}", b"event: piece\ndata: {}", b"data: x", b"event: piece\ndata: \xff"])
def test_what_is_not_of_this_protocol(wire: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        list(EventReader(None).feed(wire + b"\n\n"))
