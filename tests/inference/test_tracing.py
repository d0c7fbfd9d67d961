"""Spans as an OpenTelemetry collector gets them: a real exporter, and OTLP over real HTTP."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.inference.test_server import StartServer

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Keeps every span that is sent to it, with the name of the service."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[tuple[str, Any]] = []


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for group in sent.resource_spans:
            names = {one.key: one.value.string_value for one in group.resource.attributes}
            self.server.spans += [(names["service.name"], span) for scope in group.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes_of(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_a_request_is_a_span_of_its_callers_trace(
    start_server: StartServer, tiny_bundle: Path, collector: Collector
) -> None:
    url = f"http://127.0.0.1:{collector.server_port}"
    server = start_server(MODEL_URI=str(tiny_bundle), OTEL_EXPORTER_OTLP_ENDPOINT=url)
    server.wait_for_version("v1")
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "abc"}
    assert server.predict({"top_k": 3}, **headers).status_code == 200
    assert server.send(b"{").status_code == 400
    assert server.stop() == 0  # what was not sent yet is sent at the end
    predictions = [(name, span) for name, span in collector.spans if span.name == "POST /predict"]
    (name, answered), (_, refused) = predictions
    assert name == "fashion-recommender"
    assert (answered.trace_id.hex(), answered.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes_of(answered) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "request_id": "abc",
        "source": "popular",
    }
    assert 0 < answered.end_time_unix_nano - answered.start_time_unix_nano < 60e9
    assert refused.trace_id.hex() != TRACE
    assert attributes_of(refused)["http.response.status_code"] == 400


def test_a_collector_that_is_gone_harms_no_answer(start_server: StartServer, tiny_bundle: Path) -> None:
    server = start_server(
        MODEL_URI=str(tiny_bundle),
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    server.wait_for_version("v1")
    for _ in range(5):
        assert server.predict({"top_k": 3}).status_code == 200
    assert server.stop() == 0
    lines = server.log_path.read_text().splitlines()
    assert [line for line in lines if not line.startswith("{")] == []


def test_without_the_packages_the_server_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.exporter.otlp.proto.http.trace_exporter'] = None\n"
        "from inference.tracing import Tracing; Tracing()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "install fashion-recommender[tracing], or unset it" in result.stderr
