"""What the encoding worker does: prompts become token ids at once, while the others are at work.

The API could do it itself, but a vocabulary of 262,144 tokens takes it a second to read and 100 MB to hold; a fork shares the nursery's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from service.engine.card import card_of
from service.engine.messages import Encode, Failed, Finished, RemoteError
from service.engine.prompts import PromptEncoder
from service.observability.logs import describe_error
from watermark.errors import CountersignError

if TYPE_CHECKING:
    from service.engine.worker import Inbox
    from watermark.pipeline import WatermarkedModel

log = structlog.get_logger("countersign.worker.encoding")


class Encoding:
    """One `turn` encodes all prompts that came. There is nothing to cancel: each takes milliseconds."""

    def __init__(self, model: WatermarkedModel, inbox: Inbox, tell: Callable[[object], None]) -> None:
        self.inbox, self.tell = inbox, tell
        self._encoder = PromptEncoder(card_of(model), model.lm.tokenizer.backend_tokenizer)

    def warm_up(self) -> None:
        self._encoder.encode("A few words.", max_new_tokens=1)

    def turn(self) -> None:
        for message in self.inbox.waiting(wait=True):
            if isinstance(message, Encode):
                self._encode(message)

    def _encode(self, message: Encode) -> None:
        try:
            self.tell(Finished(message.number, self._encoder.encode(message.prompt, message.max_new_tokens)))
        except CountersignError as error:
            self.tell(Failed(message.number, error))
        except Exception as error:
            log.warning("prompt_failed", **describe_error(error))
            self.tell(Failed(message.number, RemoteError(describe_error(error))))
