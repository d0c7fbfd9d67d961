"""A span of each request by OpenTelemetry, for those who set OTEL_EXPORTER_OTLP_ENDPOINT.

Needs the extra `tracing`. The SDK reads its own variables: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and the rest. Without
the endpoint nothing of it is imported. With it, predictions leave the short way, since a span belongs to the caller's
trace and so needs the headers.
"""

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from inference.errors import SettingsInvalid

NAME = "fashion-recommender"
_CONTEXT = (b"traceparent", b"tracestate")


class Tracing:
    """Sends spans over OTLP from a thread of its own; SettingsInvalid without the packages."""

    def __init__(self) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace import SpanKind, StatusCode
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            message = f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but {error.name} is missing"
            raise SettingsInvalid(f"{message}; install fashion-recommender[tracing], or unset it") from error
        os.environ.setdefault("OTEL_SERVICE_NAME", NAME)
        try:
            provider = TracerProvider(resource=Resource.create())  # sends what is left when the process ends
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except ValueError as error:
            raise SettingsInvalid(f"one of the variables OTEL_… is refused by OpenTelemetry: {error}") from error
        self._tracer = provider.get_tracer(NAME)
        self._propagator = TraceContextTextMapPropagator()
        self._kind, self._error = SpanKind.SERVER, StatusCode.ERROR

    def request_done(
        self,
        headers: Iterable[tuple[bytes, bytes]],
        method: str,
        route: str,
        status: int,
        seconds: float,
        request_id: str,
        facts: Mapping[str, Any],
    ) -> None:
        """Record a request that has been answered just now, as part of the trace that its `traceparent` names."""
        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in _CONTEXT}
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            f"{method} {route}",
            context=self._propagator.extract(carrier),
            kind=self._kind,
            attributes={
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "request_id": request_id,
                **facts,
            },
            start_time=end_ns - int(seconds * 1e9),
        )
        if status >= 500:
            span.set_status(self._error)
        span.end(end_ns)
