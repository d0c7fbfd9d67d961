"""More than can be answered: refused at once, bounded, and over within a second."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import uvicorn

from inference.batching import DEADLINE_S, MAX_WAITING, Batcher
from inference.draining import DrainingServer
from inference.engine import Request
from inference.errors import RequestRefused
from inference.protocol import Connection, ConnectionState
from inference.swap import Live
from tests.inference.conftest import Server
from tests.inference.test_batching import live
from tests.inference.test_draining import REQUEST, read_answer
from tests.inference.test_server import StartServer, metric

__all__ = ["live"]  # a fixture


def test_a_flood_is_refused_at_once_with_429_and_the_server_recovers(
    start_server: StartServer, tiny_bundle: Path
) -> None:
    server = start_server(MODEL_URI=str(tiny_bundle))
    server.wait_for_version("v1")
    port = int(server.url.rsplit(":", 1)[1])
    n_clients = MAX_WAITING + 250
    clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(n_clients)]
    try:
        clients[-1].sendall(REQUEST)
        assert read_answer(clients[-1]).startswith(b"HTTP/1.1 200 ")  # the last is accepted, so all of them are
        os.kill(server.process.pid, signal.SIGSTOP)  # so that all of them wait when it goes on
        for client in clients:
            client.sendall(REQUEST)
        os.kill(server.process.pid, signal.SIGCONT)
        answers = [read_answer(client) for client in clients]
        refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 429 ")]
        served = [answer for answer in answers if answer.startswith(b"HTTP/1.1 200 ")]
        assert len(refused) + len(served) == n_clients
        assert len(served) >= MAX_WAITING
        assert refused
        assert all(b"retry-after: 1" in answer and b'"code":"overloaded"' in answer for answer in refused)
        started = time.monotonic()
        assert server.predict({}).status_code == 200
        assert time.monotonic() - started < 1
    finally:
        for client in clients:
            client.close()
    assert metric(server, "http_requests_total", route="/predict", status="429") == len(refused)
    assert metric(server, "requests_waiting") == 0


def test_all_who_wait_to_be_accepted_are_taken_in_one_turn() -> None:
    async def nothing(scope: object, receive: object, send: object) -> None:
        """Answer nobody."""
        del scope, receive, send

    async def accept(n_clients: int) -> int:
        config = uvicorn.Config(nothing, http=Connection, lifespan="off", log_config=None)
        server = DrainingServer(config, ConnectionState(lambda _: None))
        config.load()
        server.lifespan = config.lifespan_class(config)
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2 * n_clients))
            listener.setblocking(False)
            await server.startup([listener])
            for _ in range(n_clients):
                stack.enter_context(socket.create_connection(listener.getsockname()))
            server.accept_waiting()
            for _ in range(3):  # a task begins, makes its connection, and ends
                await asyncio.sleep(0)
            n_accepted = len(server.server_state.connections)
            server.should_exit = True
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await server.shutdown([listener])
        return n_accepted

    assert asyncio.run(accept(20)) == 20


def test_what_waited_too_long_is_not_worth_a_run(live: Live) -> None:
    now = 0.0
    sizes: list[float] = []

    async def ask() -> list[object]:
        nonlocal now
        batcher = Batcher(lambda: live, sizes.append, clock=lambda: now)
        old = batcher.submit(Request())
        now += DEADLINE_S + 0.01
        new = batcher.submit(Request())
        return list(await asyncio.gather(old, new, return_exceptions=True))

    old, new = asyncio.run(ask())
    assert isinstance(old, RequestRefused)
    assert (old.status, old.code) == (429, "deadline_passed")
    assert isinstance(new, tuple)
    assert sizes == [1]


def test_a_batch_that_fails_is_counted_against_its_model(live: Live) -> None:
    failed: list[Live] = []

    async def ask() -> None:
        batcher = Batcher(lambda: live, lambda _: None, failed.append)
        broken = Request(article_ids=None)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await batcher.submit(broken)
        await batcher.submit(Request())

    before = live.tally.n_answered
    asyncio.run(ask())
    assert failed == [live]
    assert live.tally.n_answered == before + 1


def test_the_access_log_names_no_customer_and_keeps_its_form(server: Server) -> None:
    server.predict({"customer_id": "c0ffee" * 10}, **{"X-Request-ID": "form-1"})
    server.wait_for(lambda: [e for e in server.events("request") if e["request_id"] == "form-1"], "the line")
    (line,) = [event for event in server.events("request") if event["request_id"] == "form-1"]
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")
    assert 0 < line["duration_ms"] < 10_000
