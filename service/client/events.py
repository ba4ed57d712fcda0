"""Server-sent events to the schemas of a stream, without input or output."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from pydantic import ValidationError

from service.client.errors import ConnectionFailed, UnexpectedAnswer, problem_error
from service.schemas.generate import Piece, StreamedResult, StreamEnd
from service.schemas.problem import Problem

StreamEvent = Piece | StreamedResult | StreamEnd
EVENTS: dict[str, type[StreamEvent]] = {"piece": Piece, "result": StreamedResult, "done": StreamEnd}


class EventReader:
    """Feed it what arrives; it gives events as they are complete. Raises ProblemError for the service's own `error` event."""

    def __init__(self, request_id: str | None) -> None:
        self._request_id = request_id
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._buffer = ""
        self._complete = False

    def feed(self, data: bytes) -> Iterator[StreamEvent]:
        try:
            self._buffer += self._decoder.decode(data)
        except UnicodeDecodeError:
            raise UnexpectedAnswer("The stream is no UTF-8.") from None
        # Not by str.splitlines: JSON may hold U+2028 and U+0085 as they are. The service ends its lines with "\n" only.
        *blocks, self._buffer = self._buffer.split("\n\n")
        for block in blocks:
            fields = [line.partition(":") for line in block.split("\n")]
            name = next((value.removeprefix(" ") for field, _, value in fields if field == "event"), "message")
            data_lines = [value.removeprefix(" ") for field, _, value in fields if field == "data"]
            if data_lines:  # else a comment that keeps the connection open
                yield self._event(name, "\n".join(data_lines))

    def end(self) -> None:
        """The connection is closed. Raises ConnectionFailed when the stream was not at its end."""
        if not self._complete:
            raise ConnectionFailed("The stream broke off before its end; the texts are incomplete.")

    def _event(self, name: str, data: str) -> StreamEvent:
        try:
            if name == "error":
                raise problem_error(Problem.model_validate_json(data), request_id=self._request_id)
            if name not in EVENTS:
                raise UnexpectedAnswer(f"The stream holds an event {name[:40]!r}, which this client does not know.")
            event = EVENTS[name].model_validate_json(data)
        except ValidationError:
            raise UnexpectedAnswer(f"The stream holds an event {name!r} that is not of this release.") from None
        self._complete = isinstance(event, StreamEnd)
        return event
