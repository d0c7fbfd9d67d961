"""Send requests over real keep-alive connections and time every answer; a process of its own beside the server.

    python -m benchmarks.servers.load --port 8080 --bodies b.json --connections 32   # as fast as it goes
    python -m benchmarks.servers.load --port 8080 --bodies b.json --rate 100         # at a steady pace

Without a rate each connection sends the next request when it has its answer. With one, requests are due at even
distances, and the time of each counts from when it was due, so that a server that stalls cannot slow the clock. In an
overload most of that time is spent here, waiting for a connection that is free; `sent_p99_ms` counts from when a
request was handed to its connection, which is what the server can do something about.
The last line on stdout is one JSON object.
"""

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, cast

import uvloop

MAX_QUEUED_S = 5.0  # an overloaded server is not owed more than this


class Client(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._received = b""
        self._due = self._sent = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by descent
        self._load.ready(self)

    def send(self, request: bytes, due: float) -> None:
        self._due, self._sent = due, time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._received[:head_end].lower()
        at = head.find(b"content-length:")
        if at < 0:  # chunked: the last chunk ends it
            if not self._received.endswith(b"0\r\n\r\n"):
                return
        elif len(self._received) < head_end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0]):
            return
        status = int(self._received[9:12])
        self._received = b""
        self._load.answered(status, self._due, self._sent)
        if b"connection: close" in head:
            self.transport.close()
        else:
            self._load.ready(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._load.lost(self)


class Load:
    """The requests, who may send the next one, and what came back."""

    def __init__(self, options: argparse.Namespace) -> None:
        head = f"POST {options.path} HTTP/1.1\r\nHost: benchmark\r\nContent-Type: application/json\r\n"
        bodies = [text.encode() for text in json.loads(options.bodies.read_text())]
        self._requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._options = options
        self._next = options.offset
        self._idle: deque[Client] = deque()
        self._due: deque[float] = deque()
        self._running = False
        self.statuses: Counter[str] = Counter()
        self.milliseconds: list[float] = []
        self.milliseconds_sent: list[float] = []

    async def run(self) -> float:
        """Send for the time that was asked for and return the seconds that it took."""
        options = self._options
        for _ in range(options.connections):
            await self._connect()
        self._running = True
        started = time.perf_counter()
        if options.rate:
            await self._pace(started)
        else:
            while self._idle:
                self._send(self._idle.popleft(), time.perf_counter())
            await asyncio.sleep(options.seconds)
        seconds = time.perf_counter() - started
        self._running = False
        await asyncio.sleep(min(0.5, options.seconds))
        return seconds

    async def _pace(self, started: float) -> None:
        rate = self._options.rate
        n_due = 0
        while (now := time.perf_counter()) < started + self._options.seconds:
            while started + n_due / rate <= now:
                self._due.append(started + n_due / rate)
                n_due += 1
            while self._due and self._idle:
                self._send(self._idle.popleft(), self._due.popleft())
            while self._due and now - self._due[0] > MAX_QUEUED_S:
                self._due.popleft()
                self.statuses["never sent"] += 1
            await asyncio.sleep(max(0.0, started + n_due / rate - time.perf_counter()))
        self.statuses["never sent"] += len(self._due)

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Client(self), "127.0.0.1", self._options.port)
        except OSError:
            self.statuses["not connected"] += 1

    def _send(self, client: Client, due: float) -> None:
        client.send(self._requests[self._next % len(self._requests)], due)
        self._next += 1

    def ready(self, client: Client) -> None:
        if self._due and self._running:
            self._send(client, self._due.popleft())
        elif self._running and not self._options.rate:
            self._send(client, time.perf_counter())
        else:
            self._idle.append(client)

    def answered(self, status: int, due: float, sent: float) -> None:
        now = time.perf_counter()
        self.statuses[str(status)] += 1
        if status == 200:
            self.milliseconds.append((now - due) * 1000)
            self.milliseconds_sent.append((now - sent) * 1000)

    def lost(self, client: Client) -> None:
        if not self._running:
            return
        if client in self._idle:
            self._idle.remove(client)
        self.statuses["closed"] += 1
        asyncio.get_running_loop().create_task(self._connect())


def percentile(ordered: list[float], share: float) -> float:
    """Give the value below which `share` of the ordered ones lie; nan of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def main() -> None:
    """Run one load and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers.load")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/predict")
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--offset", type=int, default=0)
    options = parser.parse_args()
    load = Load(options)
    cpu_s = time.process_time()
    seconds = uvloop.run(load.run())
    cpu_s = time.process_time() - cpu_s
    ordered = sorted(load.milliseconds)
    n_good = len(ordered)
    figures: dict[str, Any] = {
        "seconds": seconds,
        "n_good": n_good,
        "rps": n_good / seconds,
        "p50_ms": percentile(ordered, 0.5),
        "p99_ms": percentile(ordered, 0.99),
        "sent_p99_ms": percentile(sorted(load.milliseconds_sent), 0.99),
        "max_ms": ordered[-1] if ordered else float("nan"),
        "n_over_50_ms": sum(value > 50 for value in ordered),
        "statuses": dict(load.statuses),
        "client_cpu_share": cpu_s / seconds,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
