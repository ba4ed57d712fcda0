"""What a replica tells of the work that it was given. Errors travel as values: Ray would log the traceback of one that is raised."""

from __future__ import annotations

from typing import NamedTuple

from service.engine.messages import RemoteError
from service.engine.protocol import Health, ModelCard, Piece, Stats, Ticket, Unavailable
from service.observability.logs import describe_error
from watermark.errors import CountersignError
from watermark.sampling.requests import GenerationResult
from watermark.statistics.verdict import Verdict


class Accepted(NamedTuple):
    """All of it is queued."""


class Refused(NamedTuple):
    """None of it is."""

    error: Unavailable


class Times(NamedTuple):
    """Seconds since the replica accepted the work; its clock is not the asker's."""

    started: float
    first_token: float | None
    finished: float

    @staticmethod
    def of(ticket: Ticket) -> Times:
        """Of a ticket that is done."""
        finished = ticket.finished or ticket.submitted
        first = None if ticket.first_token is None else ticket.first_token - ticket.submitted
        return Times((ticket.started or finished) - ticket.submitted, first, finished - ticket.submitted)


class Done(NamedTuple):
    result: GenerationResult | list[Verdict] | tuple[int, ...]
    times: Times


class Failed(NamedTuple):
    error: CountersignError | RemoteError | Unavailable

    @staticmethod
    def by(error: Exception) -> Failed:
        return Failed(error if isinstance(error, CountersignError | Unavailable | RemoteError) else RemoteError(describe_error(error)))


News = Piece | Done | Failed


class Report(NamedTuple):
    """The state of a replica."""

    card: ModelCard | None
    health: Health
    stats: Stats
