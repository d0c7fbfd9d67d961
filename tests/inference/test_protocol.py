"""Clients that are slow, broken or too many, against a real server over real sockets."""

import contextlib
import json
import resource
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest

from inference.protocol import MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_PIECES, MAX_PIPELINED
from tests.inference.conftest import Server
from tests.inference.test_server import StartServer, metric

PREDICT = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n"


def connect(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def read_all(client: socket.socket) -> tuple[int, bytes]:
    """Read until the server closes; the status of the first answer and everything."""
    received = b""
    while chunk := client.recv(65_536):
        received += chunk
    return int(received[9:12]) if received else 0, received


def answer_despite_reset(client: socket.socket) -> bytes:
    """Give what came before the connection was closed on what was still being sent."""
    try:
        return client.recv(65_536)
    except OSError:
        return b"HTTP/1.1 408 reset"


def rss_bytes(server: Server) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()


def envelope(received: bytes) -> dict[str, str]:
    error: dict[str, str] = json.loads(received.split(b"\r\n\r\n", 1)[1])["error"]
    return error


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS handshake
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: twelve\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /pr\xffedict HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_400_in_the_envelope(server: Server, sent: bytes) -> None:
    with connect(server) as client:
        client.sendall(sent)
        status, received = read_all(client)
    assert status == 400
    assert envelope(received)["code"] == "malformed_http"
    assert b"content-type: application/json" in received
    assert metric(server, "http_requests_total", route="none", status="400") >= 1


@pytest.mark.parametrize(
    "sent",
    [
        PREDICT + b"X-Long: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
        PREDICT + b"X-Endless: " + b"a" * (4 * MAX_HEAD_BYTES),  # its end never comes
        PREDICT + b"A: b\r\n" * MAX_HEAD_BYTES,
        b"GET /" + b"a" * (2 * MAX_HEAD_BYTES) + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_a_head_that_is_too_large_is_refused(server: Server, sent: bytes) -> None:
    with connect(server) as client:
        client.sendall(sent)
        status, received = read_all(client)
    assert status == 431
    assert envelope(received)["code"] == "head_too_large"


def test_a_body_larger_than_the_head_may_be_is_no_large_head(server: Server) -> None:
    assert server.send(b'{"top_k": 1}'.ljust(3 * MAX_HEAD_BYTES)).status_code == 200


def test_heads_and_bodies_that_trickle_are_cut_off_in_time_and_others_do_not_notice(
    start_server: StartServer, tiny_bundle: Path
) -> None:
    command = [
        "-c",
        "import inference.protocol as p; p.REQUEST_TIMEOUT_S = 1.0; import inference.__main__ as m; m.main()",
    ]
    server = start_server(MODEL_URI=str(tiny_bundle), command=[sys.executable, "-W", "error", *command])
    server.wait_for_version("v1")
    with connect(server) as slow_head, connect(server) as slow_body, connect(server) as refused:
        refused.sendall(PREDICT.replace(b"12", b"1000000") + b"\r\n{")
        slow_head.sendall(b"POST /predict HTTP/1.1\r\nHost")
        slow_body.sendall(PREDICT.replace(b"12", b"500") + b"\r\n{")
        assert server.predict({}).status_code == 200
        with contextlib.suppress(OSError):  # until the server has enough of it
            for _ in range(100):
                slow_head.sendall(b"a")
                slow_body.sendall(b" ")
                time.sleep(0.1)
        for client in (slow_head, slow_body):
            assert answer_despite_reset(client).startswith(b"HTTP/1.1 408 ")
        status, received = read_all(refused)
        assert (status, received.count(b"HTTP/1.1")) == (413, 1)  # and no second answer
    assert metric(server, "http_requests_total", route="none", status="408") == 2
    assert metric(server, "http_requests_total", route="/predict", status="499") == 1


def test_a_client_that_closed_its_side_is_still_answered(server: Server) -> None:
    with connect(server) as client:
        client.sendall(PREDICT + b'\r\n{"top_k": 3}')
        client.shutdown(socket.SHUT_WR)
        status, received = read_all(client)
    assert status == 200
    assert b'"count":3' in received


def test_a_request_that_was_whole_is_answered_before_the_garbage_behind_it(server: Server) -> None:
    with connect(server) as client:
        client.sendall(PREDICT + b'\r\n{"top_k": 3}' + b"\x00\x01garbage\r\n\r\n")
        status, received = read_all(client)
    assert status == 200
    assert b'"count":3' in received


CHUNKED = b'POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n{"top_k": 3}\r\n'


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + b"0\r\n" + b"X-Trailer: abcdef\r\n" * MAX_HEAD_BYTES,
        CHUNKED + b"0\r\nX-Endless: " + b"a" * (64 * MAX_HEAD_BYTES),
        CHUNKED + b"1;endless=" + b"a" * (64 * MAX_HEAD_BYTES),
    ],
)
def test_trailers_that_are_too_large_are_refused(server: Server, sent: bytes) -> None:
    with connect(server) as client:
        with contextlib.suppress(ConnectionError):  # the server closes while they are sent
            client.sendall(sent)
        with contextlib.suppress(ConnectionError):
            assert read_all(client)[0] == 431
    assert metric(server, "http_requests_total", route="none", status="431") >= 1


def test_a_body_in_more_pieces_than_anybody_needs_is_refused(server: Server) -> None:
    spaces = b"1\r\n \r\n" * (MAX_PIECES - 1)  # the body itself is one piece
    with connect(server) as client:
        client.sendall(CHUNKED + spaces + b"0\r\n\r\n")
        answer = b""
        while b"}" not in answer:  # head and body may come one after the other
            answer += client.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        client.sendall(CHUNKED + spaces + b"1\r\n \r\n")
        status, received = read_all(client)
    assert (status, envelope(received)["code"]) == (413, "too_many_pieces")


def test_trailers_are_no_headers_and_the_connection_goes_on(server: Server) -> None:
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connect(server) as client:
        client.sendall(CHUNKED + b"0\r\nX-Request-ID: trailer\r\n\r\n" + last)
        _, received = read_all(client)
    assert received.count(b"HTTP/1.1 200") == 2
    assert b"trailer" not in received


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def test_who_asks_for_an_upgrade_is_answered_as_if_not_and_the_body_is_no_request(server: Server) -> None:
    inner = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: inner\r\n\r\n"
    smuggled = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(inner) + UPGRADE + b"\r\n" + inner
    asked = PREDICT + UPGRADE + b'\r\n{"top_k": 3}'
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: last\r\nConnection: close\r\n\r\n"
    sent = smuggled + asked + b"GET /livez HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n" + asked + last
    for n_bytes in (len(sent), 100, 7):  # at once, and in pieces
        with connect(server) as client:
            for start in range(0, len(sent), n_bytes):
                client.sendall(sent[start : start + n_bytes])
            _, received = read_all(client)
        statuses = [
            line.split()[1] for line in received.replace(b"}HTTP", b"}\nHTTP").splitlines() if b"HTTP/1.1" in line
        ]
        assert statuses == [b"400", b"200", b"200", b"200", b"200"]
        assert received.count(b'"count":3') == 2
        assert b"inner" not in received
        assert b"x-request-id: last" in received


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked"])
def test_transfer_codings_other_than_chunked_are_refused(server: Server, coding: bytes) -> None:
    with connect(server) as client:
        client.sendall(CHUNKED.replace(b"chunked", coding) + b"0\r\n\r\n")
        status, received = read_all(client)
    assert status == 501
    assert envelope(received)["code"] == "not_implemented"


def test_connect_is_refused(server: Server) -> None:
    with connect(server) as client:
        client.sendall(b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        status, received = read_all(client)
    assert status == 501
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "request_line", [b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", PREDICT + b'\r\n{"top_k": 3}'], ids=["get", "post"]
)
def test_requests_without_end_that_nobody_waits_for_cost_little(server: Server, request_line: bytes) -> None:
    server.predict({})
    before_bytes = rss_bytes(server)
    with connect(server) as client:
        with contextlib.suppress(OSError):  # the server closes while they are sent
            client.sendall(request_line * 50_000)
        with contextlib.suppress(OSError):
            while client.recv(1 << 20):
                pass
    assert rss_bytes(server) - before_bytes < 16 << 20
    assert metric(server, "http_requests_total", route="none", status="429") >= 1


def test_as_many_requests_at_once_as_may_wait_are_answered(server: Server) -> None:
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connect(server) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * MAX_PIPELINED + last)
        _, received = read_all(client)
    assert received.count(b"HTTP/1.1 200") == MAX_PIPELINED + 1


def test_a_low_limit_of_open_files_is_raised(start_server: StartServer, tiny_bundle: Path) -> None:
    command = ["sh", "-c", f"ulimit -Sn 256; exec {sys.executable} -m inference"]
    server = start_server(MODEL_URI=str(tiny_bundle), command=command)
    (line,) = [
        line
        for line in Path(f"/proc/{server.process.pid}/limits").read_text().splitlines()
        if line.startswith("Max open files")
    ]
    soft, hard = (int(number) for number in line.split()[3:5])
    assert soft == min(MAX_CONNECTIONS + 256, hard)


def test_thousands_of_idle_connections_cost_little_and_make_room(start_server: StartServer, tiny_bundle: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_clients = MAX_CONNECTIONS + 200
    if hard < n_clients + 500:
        pytest.skip(f"this system lets a process open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, n_clients + 500), hard))
    server = start_server(MODEL_URI=str(tiny_bundle))
    server.wait_for_version("v1")
    before_bytes = rss_bytes(server)
    clients = [connect(server) for _ in range(n_clients)]
    try:
        with httpx.Client(base_url=server.url) as client:
            assert client.post("/predict", json={}).status_code == 200
            assert rss_bytes(server) - before_bytes < 40 << 20
            n_open = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
            assert MAX_CONNECTIONS <= n_open < MAX_CONNECTIONS + 50
            assert client.post("/predict", json={}).status_code == 200
        assert clients[0].recv(10) == b""  # the one that was idle longest was closed
        clients[-1].sendall(PREDICT + b'\r\n{"top_k": 3}')
        assert clients[-1].recv(1000).startswith(b"HTTP/1.1 200")
    finally:
        for idle in clients:
            idle.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_unfinished_requests_make_room_for_new_connections(start_server: StartServer, tiny_bundle: Path) -> None:
    command = "import inference.protocol as p; p.MAX_CONNECTIONS = 20; import inference.__main__ as m; m.main()"
    server = start_server(MODEL_URI=str(tiny_bundle), command=[sys.executable, "-W", "error", "-c", command])
    server.wait_for_version("v1")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(30)]
        for client in clients[10:]:  # the first ten are idle, and closed for the others
            client.sendall(b"P")
        assert server.get("/livez").status_code == 200
        assert server.predict({}).status_code == 200
        status, received = read_all(clients[10])
        assert (status, envelope(received)["code"]) == (503, "too_many_connections")
        clients[-1].sendall(PREDICT.removeprefix(b"P") + b'\r\n{"top_k": 3}')
        assert clients[-1].recv(1000).startswith(b"HTTP/1.1 200")
