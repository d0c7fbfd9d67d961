"""Metrics for Prometheus and log lines for people; neither ever holds a customer_id."""

import asyncio
import datetime as dt
import functools
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from structlog.typing import FilteringBoundLogger, Processor

from inference.engine import Recommendation
from inference.limits import read_memory
from inference.manifest import Manifest

# A predict takes about a millisecond, and a tenth of a second is late; the rest is for people's pages.
LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
SECONDS_PER_DAY = 86_400


disable_created_metrics()  # type: ignore[no-untyped-call]  # a time of creation beside every counter doubles the page and serves nobody


class Metrics:
    """Everything that /metrics shows."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._now = now
        self._requests = Counter(
            "http_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self._latency = Histogram(
            "http_request_duration_seconds",
            "From the request's head to its answer.",
            ["route"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._sources = Counter(
            "recommendations", "Answers by what they are based on.", ["source"], registry=self.registry
        )
        self._by_source = {source: self._sources.labels(source) for source in ("personal", "segment", "popular")}
        self._customers = Counter("customers_asked", "Requests that named a customer.", registry=self.registry)
        self._unknown_customers = Counter(
            "unknown_customers", "Requests for a customer that the bundle does not know.", registry=self.registry
        )
        self._unknown_articles = Counter(
            "unknown_articles", "article_ids sent that the catalogue does not have.", registry=self.registry
        )
        self.batch_size = Histogram(
            "batch_size", "Requests per run of the graph.", buckets=BATCH_BUCKETS, registry=self.registry
        )
        self._swaps = Counter("model_swaps", "New champions by outcome.", ["outcome"], registry=self.registry)
        for outcome in ("swapped", "refused", "rolled_back"):
            self._swaps.labels(outcome)
        self._model = Gauge(
            "model_info", "1 for the model that answers now.", ["version", "cutoff_date"], registry=self.registry
        )
        self._model_age = Gauge(
            "model_age_seconds", "Since the end of the last day that the model saw.", registry=self.registry
        )
        self._add_memory()
        self._observed: dict[tuple[str, int], Callable[[float], None]] = {}

    def _add_memory(self) -> None:
        working_set = Gauge(
            "memory_working_set_bytes", "Of the container, as the kubelet counts it.", registry=self.registry
        )
        limit = Gauge("memory_limit_bytes", "Of the container; 0 without one.", registry=self.registry)
        working_set.set_function(lambda: memory.working_set_bytes if (memory := read_memory()) else 0)
        limit.set_function(lambda: memory.limit_bytes if (memory := read_memory()) else 0)

    def watch(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Show a number that is read when /metrics is asked for."""
        Gauge(name, documentation, registry=self.registry).set_function(read)

    def counter(self, name: str, documentation: str) -> Callable[[], None]:
        """Show a count, and give what adds one to it."""
        return Counter(name, documentation, registry=self.registry).inc

    def request_done(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        observe = self._observed.get((route, status))
        if observe is None:
            observe = self._observed[route, status] = self._bind(route, status)
        observe(seconds)

    def _bind(self, route: str, status: int) -> Callable[[float], None]:
        requests, latency = self._requests.labels(route, str(status)), self._latency.labels(route)

        def observe(seconds: float) -> None:
            requests.inc()
            latency.observe(seconds)

        return observe

    def recommended(self, customer_id: str | None, answer: Recommendation) -> None:
        """Count one answer by its source and by what was unknown."""
        self._by_source[answer.source].inc()
        if customer_id is not None:
            self._customers.inc()
            if not answer.is_known_customer:
                self._unknown_customers.inc()
        if answer.n_unknown_articles:
            self._unknown_articles.inc(answer.n_unknown_articles)

    def refused_early(self, status: int) -> None:
        """Count what was answered before there was a request: not HTTP, too slow, too large a head."""
        self._requests.labels("none", str(status)).inc()

    def swapped(self, manifest: Manifest, outcome: Literal["swapped", "rolled_back"] = "swapped") -> None:
        """Show a new model."""
        self._swaps.labels(outcome).inc()
        self._model.clear()
        self._model.labels(manifest.version, manifest.cutoff_date.isoformat()).set(1)
        seen_until = (manifest.trained_through.toordinal() + 1 - 719_163) * SECONDS_PER_DAY
        self._model_age.set_function(lambda: self._now() - seen_until)

    def refused(self) -> None:
        """Count a champion that was not taken."""
        self._swaps.labels("refused").inc()


class AccessLog:
    """One line per request in the form of the other events, made for a tenth of their cost.

    Lines of the same turn of the event loop are written by one call.
    """

    def __init__(self, write: Callable[[bytes], object] | None = None) -> None:
        self._write = write or functools.partial(os.write, sys.stderr.fileno())
        self._lines: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_on = True

    def write(self, facts: dict[str, Any]) -> None:
        """Queue a line for the end of this turn."""
        if not self._lines:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
                self._is_on = logging.getLogger("access").isEnabledFor(logging.INFO)
            if not self._is_on:
                return
            self._loop.call_soon(self._flush)
        facts["event"] = "request"
        facts["level"] = "info"
        facts["timestamp"] = dt.datetime.now(dt.UTC)
        self._lines.append(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self._write(b"".join(lines))


def configure_logging(level: str) -> None:
    """Send one JSON line per event to stderr; the libraries' own events take the same form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=orjson.dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, number), force=True)
    logging.getLogger("access").setLevel(number)
    logging.captureWarnings(True)


def get_logger() -> FilteringBoundLogger:
    """Give a logger that obeys configure_logging."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger
