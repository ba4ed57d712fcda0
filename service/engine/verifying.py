"""What the verification worker does: texts in batches, short ones between the pieces of a long one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from service.engine.messages import Alive, Cancel, Failed, Finished, Keys, RemoteError, VerifyText
from service.observability.logs import describe_error
from watermark.codebook.keys import IssuerKey
from watermark.errors import Cancelled, CountersignError

if TYPE_CHECKING:
    from service.engine.worker import Inbox
    from watermark.pipeline import WatermarkedModel

log = structlog.get_logger("countersign.worker.verification")


class Verifying:
    """One `turn` reads one batch: texts that are tested alike, together at most `batch_characters` long (one text always fits)."""

    def __init__(self, model: WatermarkedModel, inbox: Inbox, tell: Callable[[object], None], batch_characters: int) -> None:
        self.model, self.inbox, self.tell = model, inbox, tell
        self._batch_characters = batch_characters
        self._waiting: deque[VerifyText] = deque()
        self._keys: dict[int, tuple[IssuerKey, ...]] = {}
        self._in_between = False
        self._reading: set[int] = set()
        """Numbers of the texts of the outer batch that somebody still waits for."""

    def warm_up(self) -> None:
        """A verdict, so that everything that is made at the first use is made. The key is nobody's."""
        self.model.verify(["A few words, of no consequence."], [IssuerKey("warm-up", bytes(32))])

    def turn(self) -> None:
        self._hear(wait=not self._waiting)
        if batch := self._take():
            self._reading = {text.number for text in batch}
            self._verify(batch)

    def _hear(self, wait: bool) -> None:
        for message in self.inbox.waiting(wait):
            if isinstance(message, VerifyText):
                self._waiting.append(message)
            elif isinstance(message, Keys):
                self._keys[message.number] = message.keys
                for number in message.forget:
                    del self._keys[number]
            elif isinstance(message, Cancel):
                self._waiting = deque(text for text in self._waiting if text.number != message.number)
                self._reading.discard(message.number)

    def _take(self, short_only: bool = False) -> list[VerifyText]:
        """Texts that are tested as the first of them is, in order; with `short_only` none that would fill a batch by itself."""
        batch: list[VerifyText] = []
        room = self._batch_characters
        for text in self._waiting:
            size = len(text.text)
            if (short_only and size > self._batch_characters) or (batch and (size > room or _manner(text) != _manner(batch[0]))):
                continue
            batch.append(text)
            room -= size
        taken = {text.number for text in batch}
        self._waiting = deque(text for text in self._waiting if text.number not in taken)
        return batch

    def _verify(self, batch: list[VerifyText]) -> None:
        first = batch[0]
        try:
            keys = self._keys[first.keys]  # now: they may be forgotten while a cancelled text is still read
            verdicts = self.model.verify(
                [text.text for text in batch],
                keys,
                false_positive_rate=first.false_positive_rate,
                detail=first.detail,
                on_batch=self._pause,
            )
        except Cancelled:
            pass  # the client left, and the service knows
        except Exception as error:
            log.warning("batch_failed", size=len(batch), **describe_error(error))
            if len(batch) == 1:
                self.tell(Failed(first.number, error if isinstance(error, CountersignError) else RemoteError(describe_error(error))))
            else:
                for text in batch:  # only the one at fault fails
                    self._verify([text])
        else:
            for text, verdict in zip(batch, verdicts, strict=True):
                self.tell(Finished(text.number, verdict))

    def _pause(self) -> None:
        """Between the pieces of a long text: a short one does not wait for all of it."""
        self.tell(Alive())
        if self._in_between:
            return
        self._in_between = True
        try:
            self._hear(wait=False)
            if not self._reading:
                raise Cancelled("Nobody waits for these texts any more.")
            if batch := self._take(short_only=True):
                self._verify(batch)
        finally:
            self._in_between = False


def _manner(text: VerifyText) -> tuple[int, float, str]:
    return text.keys, text.false_positive_rate, text.detail
