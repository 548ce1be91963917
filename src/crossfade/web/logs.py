"""Structured logs on stderr: one line per change and per slot event, none per prediction.

Every line names an `event` and its facts. Inputs and outputs of models are never logged.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import structlog

from crossfade.settings import LogSettings

_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "httpx", "botocore")
"""Libraries whose INFO lines say nothing that our own events do not."""


def configure_logs(settings: LogSettings) -> None:
    """Send everything that is logged, by Crossfade and by its libraries, to stderr in one format. Call it once."""
    level = logging.getLevelNamesMapping()[settings.level]
    renderer: Any = structlog.processors.JSONRenderer()
    if not settings.json_lines:
        renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    if settings.json_lines:
        # local variables hold inputs of models, which are never logged
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        shared.append(structlog.processors.ExceptionRenderer(transformer))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(level, logging.WARNING))


def get_logger() -> structlog.stdlib.BoundLogger:
    """Return the logger of Crossfade."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger("crossfade"))
