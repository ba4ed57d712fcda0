"""Structured logs: JSON lines (or colours on a terminal), a request id on every line, never a text and never a key.

An exception's message can quote what a user wrote, so errors are logged as their types and the lines of code they passed
through; messages, local variables and pydantic's inputs are left out.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import Any, Literal, TextIO

import structlog

LogFormat = Literal["auto", "json", "console"]
MAX_FRAMES = 30


def describe_error(error: BaseException) -> dict[str, Any]:
    """Loggable fields of an error: types along the chain of causes and the code path, without any message."""
    chain: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        chain.append(f"{type(link).__module__}.{type(link).__qualname__}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    return {"error": chain, "trace": [f"{'/'.join(Path(f.filename).parts[-3:])}:{f.lineno} {f.name}" for f in frames]}


def _exception_without_message(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Replaces structlog's traceback rendering, which would print messages."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        event.update(describe_error(info))
    elif isinstance(info, tuple) and info[1] is not None:
        event.update(describe_error(info[1]))
    event.pop("stack_info", None)
    return event


def configure_logging(level: str = "INFO", format: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logging (uvicorn, transformers) through one formatter to `stream` (stderr)."""
    output: TextIO = sys.stderr if stream is None else stream
    terminal = output.isatty()
    renderer = (
        structlog.dev.ConsoleRenderer(colors=terminal)
        if format == "console" or (format == "auto" and terminal)
        else structlog.processors.JSONRenderer()
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_without_message,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # libraries speak up for warnings only
    for name in ("countersign", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(level)
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
    logging.getLogger("uvicorn.access").disabled = True  # the service writes its own line per request, without the query string
