"""Diagnostic logs: structlog over the standard library, as JSON lines or for the eye; uvicorn's go the same way.

Holds no prompt, no answer and no key: callers pass names and numbers. Knows nothing of HTTP.
"""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_UVICORN_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
_CLIENT_LOGGERS = ("httpx2", "httpcore2")
"""They tell of every request to a remote model, and of every look at its health."""


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that takes an event and fields."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure_logging(
    level: str = "info",
    log_format: Literal["auto", "console", "json"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Send all logs to ``stream`` (standard error). ``auto``: console on a terminal, JSON elsewhere."""
    target = stream or sys.stderr
    as_console = log_format == "console" or (log_format == "auto" and target.isatty())
    shared = _shared_processors()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(as_console, target)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _UVICORN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)  # a server before this one in the process may have set another
    for name in _CLIENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET if level.lower() == "debug" else logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True  # our own access line has the request id


def bound_request(request_id: str) -> AbstractContextManager[Any]:
    """Every line logged within the block carries the request's id."""
    return structlog.contextvars.bound_contextvars(request_id=request_id)


def describe_error(error: BaseException) -> dict[str, Any]:
    """What may be logged of an unexpected error: its type and where it was raised. Its message may hold input."""
    return {"error_type": type(error).__qualname__, "where": _frames(error.__traceback__)}


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-12:]


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _drop_colour_message,
        _safe_exception,
    ]


def _renderers(as_console: bool, target: TextIO) -> list[Processor]:
    if as_console:
        return [structlog.dev.ConsoleRenderer(colors=target.isatty())]
    return [structlog.processors.JSONRenderer()]


def _drop_colour_message(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # uvicorn's second copy of its message
    return event


def _safe_exception(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Replace exception information by type and frames: messages may hold what a client sent."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event.update(describe_error(error))
    return event
