"""New tokens as text, piece by piece, and the strings that end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What tokenizers write for the first bytes of a character whose last ones are still to come."""
WINDOW = 16
"""Tokens before the new ones that are decoded again with them. A text as a whole would cost more with every token."""


class TextStream:
    """The text of a growing list of tokens. What was handed out is never taken back: pieces add up to `text`.

    Held back are the first bytes of a character, and an end that could become a stop string.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, tuple(stop)
        self._sent = 0
        self.text = ""
        """All text so far, up to the stop string."""
        self.stopped = False
        self._from, self._before, self._known = 0, "", ""
        """Decoding begins with this token; the text of all tokens, when it began to; and what the tokens from there on had decoded to."""

    @property
    def sent(self) -> str:
        """What was handed out so far."""
        return self.text[: self._sent]

    def push(self, ids: list[int], last: bool = False) -> str:
        """All tokens so far → the text that is new and certain; with `last`, all that is left."""
        if self.stopped:
            return ""
        text = self._decode(ids) if last else self._decoded(ids)
        text = self.text[: self._sent] + text[self._sent :]  # a tokenizer that rewrites its past does not rewrite ours
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop, self._sent)) >= 0]
        if found:  # the one that was complete first, however the text was cut into tokens
            self.stopped, last, text = True, True, text[: min(found)[1]]
        self.text = text
        certain = len(text) if last else self._certain(text)
        piece, self._sent = text[self._sent : max(certain, self._sent)], max(certain, self._sent)
        return piece

    def _decoded(self, ids: list[int]) -> str:
        """As `decode` says it, from the latest tokens."""
        new = self._decode(ids[self._from :])
        if not new.startswith(self._known):  # one that rewrites its past
            self._from, self._before, self._known = 0, "", ""
            new = self._decode(ids)
        text = self._before + new[len(self._known) :]
        if len(ids) - self._from >= 2 * WINDOW:
            known = self._decode(ids[-WINDOW:])
            if known and new.endswith(known) and not known.endswith(UNFINISHED):  # else it begins or ends within a character
                self._from, self._before, self._known = len(ids) - WINDOW, text, known
        return text

    def _certain(self, text: str) -> int:
        """Length of the text that no further token can change or cut off."""
        end = len(text.rstrip(UNFINISHED))
        beginnings = (length for stop in self._stop for length in range(1, len(stop)) if text.endswith(stop[:length], 0, end))
        return end - max(beginnings, default=0)
