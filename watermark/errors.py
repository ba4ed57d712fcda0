"""Every error that Countersign raises on purpose.

One small tree: a class is a stable machine code plus a sentence that says what was wrong, where, and what to do.
Front ends (the CLI, the service) map a class to an exit status or an HTTP status; the library knows of neither.
"""

from __future__ import annotations


class CountersignError(Exception):
    """Base class. `code` is stable across releases; the message is for people and carries no secret."""

    code = "error"


class InvalidInput(CountersignError):
    """A value given by the caller cannot be used: wrong type, out of range, empty, too long."""

    code = "invalid_input"


class PromptTooLong(InvalidInput):
    """Prompt and requested tokens together do not fit the context of the base model."""

    code = "prompt_too_long"


class UnknownIssuer(CountersignError):
    """No key of that name is in the key ring."""

    code = "unknown_issuer"


class KeyRingError(CountersignError):
    """A key file cannot be created, read or trusted (exists already, wrong mode, damaged)."""

    code = "key_ring"


class BaseModelError(CountersignError):
    """The frozen language model cannot be found, converted or loaded, or its architecture is not supported."""

    code = "base_model"


class NotConvertible(BaseModelError):
    """The openvino backend cannot run this model; the torch backend can."""


class CheckpointError(CountersignError):
    """A watermark checkpoint is missing, damaged, of another format, or belongs to another base model."""

    code = "checkpoint"


class Cancelled(CountersignError):
    """The caller asked for a running generation to stop."""

    code = "cancelled"
