"""The service as its clients meet it: a real process on a real port."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference.api import REQUEST_EXAMPLES
from inference.errors import SettingsInvalid
from inference.settings import read_settings
from tests.inference.conftest import Server
from tests.inference.tiny_bundle import article_id, customer_id

StartServer = Callable[..., Server]


def test_predict_answers_a_known_customer(server: Server) -> None:
    answer = server.predict({"customer_id": customer_id(1), "top_k": 3})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "customer_id": customer_id(1),
        "recommendations": [article_id(3), article_id(0), article_id(7)],
        "scores": answer.json()["scores"],
        "count": 3,
        "source": "personal",
        "model_version": "v1",
    }


def test_predict_answers_nobody_with_twelve_popular_articles(server: Server) -> None:
    answer = server.predict({}).json()
    assert (answer["customer_id"], answer["count"], answer["source"]) == (None, 12, "popular")
    assert len(set(answer["recommendations"])) == len(answer["scores"]) == 12


def test_predict_takes_the_other_names_and_leaves_out_what_was_purchased(server: Server) -> None:
    answer = server.predict({"user_id": customer_id(1), "item_ids": [article_id(5)], "exclude_purchased": True}).json()
    assert (answer["source"], answer["count"]) == ("personal", 12)
    assert not {article_id(3), article_id(5), article_id(7)} & set(answer["recommendations"])


def test_the_documented_examples_run(server: Server) -> None:
    for example in REQUEST_EXAMPLES.values():
        assert server.predict(example["value"]).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b'{"top_k": NaN}', 400, "malformed_json"),
        (b'{"customer_id": "\xff"}', 400, "malformed_json"),
        (b'{"top_k": 1, "top_k": 2}', 400, "duplicate_key"),
        (b'{"top_k": "x"}', 422, "invalid_request"),
        (json.dumps({"article_ids": ["1"] * 10_000}).encode(), 422, "invalid_request"),
        (b" " * 65_537, 413, "body_too_large"),
        (b" " * 10_000_000, 413, "body_too_large"),
    ],
)
def test_bad_bodies_get_their_status_in_the_envelope(server: Server, body: bytes, status: int, code: str) -> None:
    answer = server.send(body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]


def test_the_largest_body_that_is_allowed_is_read(server: Server) -> None:
    body = b'{"top_k": 1}'
    assert server.send(body.ljust(65_536)).status_code == 200


def test_a_chunked_body_is_cut_off_at_the_cap(server: Server) -> None:
    def chunks():
        for _ in range(200):
            yield b" " * 1000

    assert httpx.post(f"{server.url}/predict", content=chunks()).status_code == 413


def test_a_large_body_is_refused_before_it_is_sent(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_length_may_begin_with_zeros(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 0000000002\r\n\r\n{}")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    request = b'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nX-Request-ID: n%d\r\n\r\n{"top_k": %d}'
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"".join(request % (n, n) for n in range(1, 6)))
        received = b""
        while received.count(b'"model_version"') < 5:
            received += client.recv(10_000)
    order = [line for line in received.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert order == [b"x-request-id: n%d" % n for n in range(1, 6)]


def test_other_methods_and_paths_get_the_envelope(server: Server) -> None:
    answer = server.get("/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert httpx.delete(f"{server.url}/healthz").json()["error"]["code"] == "method_not_allowed"
    missing = server.get("/nowhere")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert missing.json()["error"]["request_id"] == missing.headers["x-request-id"]


def test_head_is_get_without_the_body(server: Server) -> None:
    for path in ("/", "/docs", "/metrics", "/healthz", "/openapi.json", "/nowhere"):
        answer, full = httpx.head(server.url + path), server.get(path)
        assert (answer.status_code, answer.content) == (full.status_code, b"")
        assert answer.headers["content-type"] == full.headers["content-type"]
    assert httpx.head(f"{server.url}/predict").status_code == 405


def test_a_path_with_a_slash_too_many_is_not_found(server: Server) -> None:
    answer = server.get("/healthz/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("sent", "kept"), [("shop-7:a.B", True), ("a" * 64, True), ("a" * 65, False), ("a b{}", False)]
)
def test_a_sane_request_id_is_kept(server: Server, sent: str, kept: bool) -> None:
    for answer in (server.predict({}, **{"X-Request-ID": sent}), server.predict({"q": 1}, **{"X-Request-ID": sent})):
        assert (answer.headers["x-request-id"] == sent) == kept
        assert len(answer.headers["x-request-id"]) >= 10


def test_healthz_names_the_model(server: Server) -> None:
    health = server.get("/healthz")
    assert health.status_code == 200
    facts = health.json()
    assert (facts["status"], facts["model_version"], facts["last_refusal"]) == ("ok", "v1", None)
    assert (facts["cutoff_date"], facts["trained_through"]) == ("2020-09-16", "2020-09-22")
    assert facts["age_days"] > 2000


def metric(server: Server, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(server.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise AssertionError(f"no {name} {labels}")


def test_metrics_count_requests_sources_and_what_is_unknown(server: Server) -> None:
    def read() -> tuple[float, ...]:
        return (
            metric(server, "http_requests_total", route="/predict", status="200"),
            metric(server, "http_request_duration_seconds_count", route="/predict"),
            metric(server, "recommendations_total", source="popular"),
            metric(server, "unknown_customers_total"),
            metric(server, "unknown_articles_total"),
            metric(server, "batch_size_sum"),
        )

    server.predict({})
    before = read()
    server.predict({"customer_id": "stranger", "article_ids": ["9999999999", "8888888888"]})
    assert [after - b for after, b in zip(read(), before, strict=True)] == [1, 1, 1, 1, 2, 1]
    assert metric(server, "model_info", version="v1", cutoff_date="2020-09-16") == 1
    assert metric(server, "model_age_seconds") > 2000 * 86_400
    assert metric(server, "model_swaps_total", outcome="swapped") == 1
    assert metric(server, "process_resident_memory_bytes") > 10_000_000


def test_a_scan_of_paths_makes_no_new_series(server: Server) -> None:
    for n in range(5):
        server.get(f"/scan/{n}")
    assert metric(server, "http_requests_total", route="other", status="404") >= 5
    assert "/scan" not in server.get("/metrics").text


def test_docs_are_carried_along(server: Server) -> None:
    page = server.get("/docs").text
    assert '"defaultModelsExpandDepth": -1' in page
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/docs/assets/{asset}" in page
        assert server.get(f"/docs/assets/{asset}").status_code == 200


def test_openapi_describes_predict(server: Server) -> None:
    schema = server.get("/openapi.json").json()
    assert set(schema["paths"]) >= {"/predict", "/healthz", "/livez", "/metrics"}
    operation = schema["paths"]["/predict"]["post"]
    assert set(operation["responses"]) == {"200", "400", "401", "413", "422", "429", "503"}
    assert operation["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorResponse")
    assert set(operation["requestBody"]["content"]["application/json"]["examples"]) > set(REQUEST_EXAMPLES)
    assert "customer_id" in schema["components"]["schemas"]["PredictRequest"]["properties"]


def test_openapi_describes_errors_and_tokens(server: Server) -> None:
    schema = server.get("/openapi.json").json()
    paths = schema["paths"]
    assert set(paths["/articles"]["get"]["responses"]) == {"200", "401", "422", "429", "503"}
    assert set(paths["/customers/history"]["post"]["responses"]) == {"200", "400", "401", "413", "422", "503"}
    refused = paths["/articles"]["get"]["responses"]["422"]["content"]["application/json"]["schema"]
    assert refused["$ref"].endswith("ErrorResponse")
    assert schema["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    for path, operations in paths.items():
        is_open = path in ("/healthz", "/livez")
        assert all(("security" in operation) != is_open for operation in operations.values()), path


def test_every_request_is_logged_without_the_customer(server: Server) -> None:
    secret = "c0ffee" * 10
    server.predict({"customer_id": secret}, **{"X-Request-ID": "logged-1"})
    server.predict({"customer_id": secret, "top_k": -1}, **{"X-Request-ID": "logged-2"})
    server.send(b'{"customer_id": "' + secret.encode())
    httpx.get(f"{server.url}/{secret}?customer={secret}")
    found = {event.get("request_id"): event for event in server.events("request")}
    assert found["logged-1"].items() >= {"route": "/predict", "status": 200, "source": "popular"}.items()
    assert found["logged-2"].items() >= {"status": 422, "code": "invalid_request"}.items()
    assert secret not in server.log_path.read_text()


def test_with_no_model_health_and_predict_say_why(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(MODEL_URI=str(tmp_path / "registry"))
    server.wait_for(lambda: "no champion" in server.get("/healthz").text, "the reason")
    for answer in (server.get("/healthz"), server.predict({})):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        error = answer.json()["error"]
        assert error["code"] == "no_model"
        assert "registry/champion.json: no champion (No such file or directory)" in error["message"]
    assert len(server.events("registry_unreachable")) == 1  # said once, though asked ten times a second


def test_sigterm_answers_what_is_under_way_and_ends_with_0(start_server: StartServer, tiny_bundle: Path) -> None:
    server = start_server(MODEL_URI=str(tiny_bundle))
    server.wait_for_version("v1")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(b'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{"top')
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        client.sendall(b'_k": 3}')
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
    assert server.stop() == 0
    assert server.events("drained")


def test_many_clients_at_once_are_answered_in_batches(server: Server) -> None:
    failures: list[object] = []

    def ask() -> None:
        with httpx.Client(base_url=server.url) as client:
            for n in range(1, 41):
                answer = client.post("/predict", json={"customer_id": customer_id(1), "top_k": n})
                if answer.status_code != 200 or answer.json()["count"] != n:
                    failures.append(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    n_runs, n_requests = metric(server, "batch_size_count"), metric(server, "batch_size_sum")
    assert n_requests >= 320
    assert n_runs < n_requests


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"API_PORT": "http", "MODEL_POLL_SECONDS": "0"}, r"API_PORT='http': .*; MODEL_POLL_SECONDS='0': "),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud': Input should be 'debug', 'info'"),
        ({"MODEL_URI": "http://shop/lake"}, r"MODEL_URI='http://shop/lake': expected a path, or s3://BUCKET/"),
        ({"RULES_URI": "s3://"}, r"RULES_URI='s3://': expected a path, or s3://BUCKET/"),
        ({"MODEL_CACHE": "/tmp/\udcff"}, r"MODEL_CACHE=.*udcff.*: 'utf-8' codec can't encode"),
        ({"ACCESS_LOG_SHARE": "2"}, "ACCESS_LOG_SHARE='2': Input should be less than or equal to 1"),
    ],
)
def test_settings_say_all_that_is_wrong_at_once(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match="^" + message):
        read_settings()


def test_a_port_that_is_taken_ends_with_2_and_without_a_traceback(server: Server) -> None:
    port = server.url.rsplit(":", 1)[1]
    environment = os.environ | {"API_HOST": "127.0.0.1", "API_PORT": port}
    result = subprocess.run([sys.executable, "-m", "inference"], env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == (
        f"error: API_HOST=127.0.0.1 API_PORT={port}: cannot listen there (Address already in use); "
        "take another port, or 0 for a free one\n"
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"API_HOST": "shop..invalid"}, "API_HOST=shop..invalid API_PORT=0: cannot listen there (Name or service not"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
            "one of the variables OTEL_… is refused by OpenTelemetry: max_queue_size must be a positive integer",
        ),
    ],
)
def test_what_only_shows_at_the_start_ends_with_2_and_one_line_too(environment: dict[str, str], message: str) -> None:
    environment = os.environ | {"API_HOST": "127.0.0.1", "API_PORT": "0"} | environment
    result = subprocess.run([sys.executable, "-m", "inference"], env=environment, capture_output=True, text=True)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2
    assert line.startswith(f"error: {message}")


def test_a_folder_that_may_not_be_looked_at_is_reported_and_does_not_end_the_server(start_server: StartServer) -> None:
    server = start_server(MODEL_URI="/" + "long" * 100)  # as without permission: an error that is not "no such file"
    server.wait_for(lambda: "File name too long; see to its permissions" in server.get("/healthz").text, "why")
    assert server.get("/healthz").status_code == 503
    assert server.get("/livez").status_code == 200
