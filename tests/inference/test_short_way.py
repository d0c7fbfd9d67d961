"""A plain predict goes a shorter way than the others, and nobody can tell from the answer."""

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import pytest
import uvicorn
import uvloop

from inference.batching import MAX_BATCH, MAX_WAIT_S, MAX_WAITING, PACE_HOLDS_S, Batcher
from inference.engine import Recommendation, Request
from inference.errors import RequestRefused
from inference.protocol import Connection, ConnectionState
from inference.short_way import Exchange, ShortWay
from inference.swap import Live
from inference.telemetry import Metrics
from tests.inference.conftest import Server
from tests.inference.test_batching import live
from tests.inference.test_protocol import connect, read_all
from tests.inference.test_server import StartServer, metric
from tests.inference.tiny_bundle import customer_id

__all__ = ["live"]  # a fixture

GOOD = json.dumps({"customer_id": customer_id(1), "top_k": 3}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-ID: same\r\nContent-Length: %d\r\n%s\r\n"
MANY = b'{"customers": [{"top_k": 2}, {"top_k": 1}]}'
MANY_ESCAPED = MANY.replace(b'"customers"', b'"\\u0063ustomers"')


def ask(server: Server, body: bytes) -> bytes:
    """Send one request and read its whole answer, without its date."""
    with connect(server) as client:
        client.sendall(HEAD % (len(body), b"") + body)
        received = b""
        while not is_whole(received):
            received += client.recv(65_536)
    return undated(received)


def is_whole(received: bytes) -> bool:
    head, _, payload = received.partition(b"\r\n\r\n")
    return len(payload) == int(head.split(b"content-length: ")[1].split(b"\r\n")[0]) if payload else False


def undated(answer: bytes) -> bytes:
    return answer.split(b"date: ")[0] + answer.split(b"GMT\r\n", 1)[1]


@pytest.mark.parametrize(
    "body", [GOOD, b"{}", b"{", b'{"top_k": 1000}', b'{"top_k": 1, "top_k": 2}', b"\xff", MANY, MANY_ESCAPED]
)
def test_both_ways_give_the_same_answer_to_the_byte(server: Server, body: bytes) -> None:
    short = ask(server, body)
    with connect(server) as client:  # who says "close" is answered the long way
        client.sendall(HEAD % (len(body), b"Connection: close\r\n") + body)
        _, long = read_all(client)
    assert undated(long).replace(b"connection: close\r\n", b"") == short


def test_one_and_many_and_one_in_one_piece_are_answered_in_order(server: Server) -> None:
    bodies = (GOOD, MANY, b"{}", b"{", MANY_ESCAPED, GOOD)
    with connect(server) as client:
        client.sendall(b"".join(HEAD % (len(body), b"") + body for body in bodies[:-1]))
        client.sendall(HEAD % (len(bodies[-1]), b"Connection: close\r\n") + bodies[-1])
        _, received = read_all(client)
    answers = [part.partition(b"\r\n\r\n") for part in received.split(b"HTTP/1.1 ")[1:]]
    assert [int(head[:3]) for head, _, _ in answers] == [200, 200, 200, 400, 200, 200]
    counts = [json.loads(body).get("count") for _, _, body in answers]
    assert counts == [3, 2, 12, None, 2, 3]


def test_a_client_that_leaves_in_the_middle_is_counted_as_gone(server: Server) -> None:
    with connect(server) as client:
        client.sendall(HEAD % (12, b"") + b'{"top')
    server.wait_for(lambda: 'route="/predict",status="499"' in server.get("/metrics").text, "the 499")
    assert metric(server, "requests_waiting") == 0


def test_an_idle_connection_is_closed_in_time_after_an_answer_too(start_server: StartServer, tiny_bundle: Path) -> None:
    code = (
        "import runpy, inference.protocol as p; p.KEEP_ALIVE_S = 0; runpy.run_module('inference', run_name='__main__')"
    )
    server = start_server(command=[sys.executable, "-W", "error", "-c", code], MODEL_URI=str(tiny_bundle))
    server.wait_for_version("v1")
    for first in (HEAD % (12, b"") + b'{"top_k": 1}', b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b""):
        with connect(server) as client:
            client.sendall(first)
            _, received = read_all(client)  # ends
            assert received.startswith(b"HTTP/1.1 200" if first else b"")


def test_a_fault_in_writing_one_answer_reaches_no_other(live: Live) -> None:
    accounts: list[int] = []

    class Replies:
        def reply(self, exchange: object, status: int, headers: object, payload: bytes) -> None:
            del exchange, headers, payload
            accounts.append(status)

    batcher = Batcher(lambda: live, lambda _: None)
    way = ShortWay(batcher, Metrics(), None, lambda *_: None)

    exchange = Exchange(way, Replies())
    cannot_be_written = Recommendation(["a"], [object()], "popular", False, 0)  # type: ignore[list-item]
    exchange.answered(cannot_be_written, live)
    assert accounts == [500]


def test_a_slow_processor_shortens_the_queue_until_it_is_fast_again(live: Live) -> None:
    now = 0.0
    batcher = Batcher(lambda: live, lambda _: None, clock=lambda: now)
    accepted: list[Request] = []

    class Nobody:
        def is_gone(self) -> bool:
            return False

        def answered(self, answer: Recommendation, live: Live) -> None:
            del answer, live
            accepted.append(Request())

        def failed(self, error: Exception) -> None:
            raise AssertionError(error)

    async def flood(seconds_per_batch: float) -> int:
        """Fill the queue, run it empty, and say how many were let in."""
        nonlocal now
        accepted.clear()
        while True:
            try:
                batcher.queue(Request(top_k=1), Nobody())
            except RequestRefused:
                break
        for _ in range(MAX_WAITING // MAX_BATCH + 1):
            now += seconds_per_batch
            await asyncio.sleep(0)
        assert len(batcher) == 0
        return len(accepted)

    async def run() -> None:
        nonlocal now
        assert await flood(0.001) == MAX_WAITING
        slow_s = 0.02
        await flood(slow_s)
        assert await flood(slow_s) <= 1.1 * MAX_BATCH * MAX_WAIT_S / slow_s
        now += 2 * PACE_HOLDS_S
        await flood(0.001)
        assert await flood(0.001) == MAX_WAITING

    asyncio.run(run())


def test_an_answer_to_a_connection_that_was_just_reset_is_dropped_without_a_word() -> None:
    async def answer_too_late() -> None:
        connections: list[Connection] = []

        def connect_back() -> Connection:
            state = ConnectionState(lambda *_: None, None, None)
            connections.append(Connection(uvicorn.Config(lambda: None, loop="uvloop"), state, {}))
            return connections[-1]

        loop = asyncio.get_running_loop()
        listening = await loop.create_server(connect_back, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        while not connections:
            await asyncio.sleep(0.01)
        connection = connections[0]
        connection.transport.abort()
        await asyncio.sleep(0.05)
        writer.close()
        listening.close()
        exchange = Exchange(cast(ShortWay, None), connection)  # knows of no end yet
        connection.reply(exchange, 200, [], b"{}")
        assert exchange.response_complete

    uvloop.run(answer_too_late())
