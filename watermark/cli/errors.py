"""What a person sees when a command fails: one line on stderr and an exit status, never a traceback by surprise.

Exit status: 0 done · 1 failed, or a line of a batch was bad · 2 the input or the arguments cannot be used · 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from watermark.errors import CountersignError, InvalidInput, UnknownIssuer

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


def debugging() -> bool:
    """With COUNTERSIGN_DEBUG set, exceptions pass through with their tracebacks."""
    return os.environ.get("COUNTERSIGN_DEBUG", "") not in ("", "0")


def fail(message: str, status: int) -> typer.Exit:
    """Tell a person, in one line; returns the exception that ends the command with `status`."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return typer.Exit(status)


class ErrorReportingGroup(TyperGroup):
    """The top-level command. Every subcommand, whoever registered it, reports its errors through here."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            # Usage errors and exits belong to the command-line framework; a closed pipe (`| head`) is no error of ours.
            if not _ours(error) or debugging():
                raise
            raise _report(error) from None


def _ours(error: Exception) -> bool:
    framework = type(error).__module__.split(".")[0] in ("typer", "click")
    return not framework and not (isinstance(error, OSError) and error.errno == errno.EPIPE)


def _report(error: Exception) -> typer.Exit:
    if isinstance(error, CountersignError):
        return fail(str(error), BAD_INPUT if isinstance(error, InvalidInput | UnknownIssuer) else FAILED)
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename is not None else ""
        return fail(f"cannot use{where or ' a file'}: {error.strerror or error}", FAILED)
    return fail(f"unexpected {type(error).__name__}: {error} (set COUNTERSIGN_DEBUG=1 to see where)", FAILED)
