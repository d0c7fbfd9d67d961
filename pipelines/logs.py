"""One JSON line per event on stderr: a fixed event name, facts beside it, run_id and step from the context.

    log = get_logger()
    log.info("step_finished", n_files=3, seconds=1.2)

On a terminal the same events are set for people. Results of a command never go here: they belong on stdout.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from pipelines.errors import UsageError

LEVELS = ("debug", "info", "warning", "error", "critical")


def configure_logging(level: str = "info") -> None:
    """Set up logging for the process; events of libraries (logging, warnings) take the same form."""
    if level.lower() not in LEVELS:
        raise UsageError(f"LOG_LEVEL is {level!r}; it is one of {', '.join(LEVELS)}")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor]
    if sys.stderr.isatty():
        rendering = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        # Text and newline in one write, so that processes which share stderr do not mix their lines.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,  # a module's logger, made before this call, must obey it
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, _level_number(level)), force=True)
    logging.captureWarnings(True)


def _level_number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def get_logger(**facts: Any) -> FilteringBoundLogger:
    """Give a logger whose every event carries the facts; cheap enough to call at the top of a module."""
    logger: FilteringBoundLogger = structlog.get_logger(**facts)
    return logger


@contextmanager
def log_context(**facts: Any) -> Iterator[None]:
    """Add facts (run_id, step) to every event inside, in this thread and the tasks that it starts."""
    with structlog.contextvars.bound_contextvars(**facts):
        yield
