"""The end of a server's life: nothing that was sent is lost."""

import json
import signal
import socket
import threading
import time
from pathlib import Path

import httpx

from tests.inference.conftest import Server
from tests.inference.test_server import StartServer

BODY = b'{"top_k": 3}'
REQUEST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n" + BODY


def read_answer(client: socket.socket) -> bytes:
    received = b""
    while b"}" not in received:
        chunk = client.recv(4096)
        if not chunk:
            return b""
        received += chunk
    return received


def outcome_of_one_request(port: int) -> str:
    """Send one request over a connection of its own: answered, not accepted (try elsewhere), or lost."""
    try:
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
    except OSError:
        return "not accepted"
    with client:
        try:
            client.sendall(REQUEST)
            return "answered" if read_answer(client).startswith(b"HTTP/1.1 200") else "lost"
        except OSError:
            return "lost"


def test_no_request_is_lost_when_the_server_ends_under_load(start_server: StartServer, tiny_bundle: Path) -> None:
    server = start_server(MODEL_URI=str(tiny_bundle), ACCESS_LOG_SHARE="0")
    server.wait_for_version("v1")
    port = int(server.url.rsplit(":", 1)[1])
    outcomes: list[str] = []
    kept_alive: list[str] = []
    stop = threading.Event()

    def connect_again_and_again() -> None:
        while not stop.is_set():
            outcomes.append(outcome_of_one_request(port))
            if outcomes[-1] == "not accepted":
                return

    def keep_one_connection() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            while not stop.is_set():
                try:
                    client.sendall(REQUEST)
                    received = read_answer(client)
                except OSError:
                    kept_alive.append("lost")
                    return
                kept_alive.append("answered" if received.startswith(b"HTTP/1.1 200") else "lost")
                if b"connection: close" in received:
                    return

    threads = [threading.Thread(target=connect_again_and_again) for _ in range(12)]
    threads += [threading.Thread(target=keep_one_connection) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(timeout=20)
    stop.set()
    assert server.stop() == 0
    assert "lost" not in outcomes
    assert "lost" not in kept_alive
    assert outcomes.count("answered") > 50
    assert kept_alive.count("answered") > 50


def test_while_it_drains_readiness_is_red_and_requests_are_answered(
    start_server: StartServer, tiny_bundle: Path
) -> None:
    server = start_server(MODEL_URI=str(tiny_bundle), DRAIN_SECONDS="2")
    server.wait_for_version("v1")
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    health = server.get("/healthz")
    assert (health.status_code, health.json()["error"]["code"]) == (503, "draining")
    assert server.get("/livez").status_code == 200
    assert server.predict({}).status_code == 200
    assert server.stop() == 0


def test_load_balancers_may_ask_with_head(server: Server) -> None:
    for path in ("/healthz", "/livez"):
        answer = httpx.head(f"{server.url}{path}")
        assert (answer.status_code, answer.content) == (200, b"")


def test_metrics_have_a_port_of_their_own_when_asked_for(start_server: StartServer, tiny_bundle: Path) -> None:
    server = start_server(MODEL_URI=str(tiny_bundle), METRICS_PORT="0")
    server.wait_for_version("v1")
    inner = f"http://127.0.0.1:{server.events('listening')[0]['metrics_port']}"
    assert server.get("/metrics").status_code == 404
    assert "model_info" in httpx.get(f"{inner}/metrics").text
    assert httpx.get(f"{inner}/healthz").status_code == 200
    refused = httpx.post(f"{inner}/predict", json={})
    assert (refused.status_code, json.loads(refused.text)["error"]["code"]) == (404, "not_found")


def test_pages_forbid_frames_and_guessing(server: Server) -> None:
    headers = server.get("/docs").headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
