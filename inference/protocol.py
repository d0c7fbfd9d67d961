"""HTTP/1.1 with limits: what a slow, broken or greedy client may cost, and answers in the envelope to all of them.

uvicorn's parser bounds neither the size of a head, nor the time that a request may take to arrive, nor the number of
connections; and it answers what is not HTTP in plain text.
"""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from inference.body import MAX_BODY_BYTES
from inference.responses import bare_answer
from inference.short_way import Exchange, Headers, ShortWay

MAX_LENGTH_DIGITS = 9
MAX_HEAD_BYTES = 16 * 1024
TRAILERS_TOO_LARGE = f"what follows the body is larger than {MAX_HEAD_BYTES:,} bytes"
# From the first byte of a request to its last. The largest body allowed takes 0.5 s over 1 Mbit/s.
REQUEST_TIMEOUT_S = 10.0
# A load balancer closes idle connections after 60 s; whoever closes first must not be the server.
KEEP_ALIVE_S = 75
# An answer that nobody reads.
UNREAD_TIMEOUT_S = 30.0
# An idle connection costs about 10 KiB; beyond so many the one that was idle longest makes room.
MAX_CONNECTIONS = 2048
# Of a body, as chunks or as they arrive: each costs microseconds, so that 64 KiB in single bytes would cost 0.2 s.
MAX_PIECES = 4096
# Requests of one connection that wait for the answers before them.
MAX_PIPELINED = 64


class ConnectionState(ServerState):
    """What all connections of a server share."""

    def __init__(
        self, refused: Callable[[int], None], short_way: ShortWay | None = None, metrics_port: int | None = None
    ) -> None:
        super().__init__()
        self.short_way = short_way
        self.metrics_port = metrics_port
        """Nothing is predicted there."""
        self.refused = refused
        """Takes the status of every answer that is given without a request."""
        self.is_draining = False
        """Each answer from now on is the last of its connection."""
        self.idle: dict[Connection, None] = {}
        """Without a request under way, longest first."""
        self.arriving: dict[Connection, None] = {}
        """With a request that has not arrived as a whole, oldest first."""


class Connection(HttpToolsProtocol):
    """One connection of a client; uvicorn makes it, and the server calls reap() every second."""

    def __init__(
        self,
        config: Config,
        server_state: ConnectionState,
        app_state: MutableMapping[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, dict(app_state), _loop)
        self._shared = server_state
        self._last_event_s = self.loop.time()
        self._receiving_since_s: float | None = None
        self._n_head_bytes = 0
        self._is_refused = False
        self._refusal = (400, "malformed_http", "what was sent is not HTTP/1.1")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, from the longest idle if there is none."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvloop's transport is none by descent
        shared = self._shared
        is_metrics_port = self.server is not None and self.server[1] == shared.metrics_port
        self._short_way = None if is_metrics_port else shared.short_way
        if len(self.connections) > MAX_CONNECTIONS:
            busy = (503, "too_many_connections", f"{MAX_CONNECTIONS:,} connections are busy; try again")
            if shared.idle:
                next(iter(shared.idle)).make_room()
            elif shared.arriving:  # whole requests arrive in milliseconds: the oldest is not one that hurries
                next(iter(shared.arriving)).refuse(*busy)
            else:
                self.refuse(*busy)
                return
        shared.idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._shared.idle.pop(self, None)
        self._shared.arriving.pop(self, None)
        self._receiving_since_s = None
        super().connection_lost(exc)
        if type(self.cycle) is Exchange and not self.cycle.response_complete:
            self.cycle.left()

    def data_received(self, data: bytes) -> None:
        """Parse what came, as uvicorn does, and bound its head."""
        if self._is_refused:
            return
        self._last_event_s = self.loop.time()
        self._has_body = False
        if self._receiving_since_s is None:
            self._receiving_since_s = self._last_event_s
            self._shared.idle.pop(self, None)
            self._shared.arriving[self] = None
        self._n_head_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.refuse(*self._refusal)
        else:
            if self._receiving_since_s is None:
                return
            if self._is_in_head:
                if self._n_head_bytes > MAX_HEAD_BYTES:
                    self.refuse(431, "head_too_large", f"the head is larger than {MAX_HEAD_BYTES:,} bytes")
            elif self._has_body:
                self._n_bodyless_bytes = 0
            else:
                self._n_bodyless_bytes += len(data)
                if self._n_bodyless_bytes > MAX_HEAD_BYTES:
                    self.refuse(431, "trailers_too_large", TRAILERS_TOO_LARGE)

    def _feed(self, data: bytes) -> None:
        """Parse without upgrades: there is nothing to upgrade to, and a client that asks for it is answered as if not.

        The parser takes what follows such a head for another protocol, so that a body would be left to be read as the
        next request. A fresh parser gets the head again, without the header that asks.
        """
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
            lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self._is_upgrade = False
            self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))

    cycle: Any
    """uvicorn's RequestResponseCycle or an Exchange; None before the first request."""
    _short_way: ShortWay | None = None
    _is_upgrade = False
    _is_in_head = True
    _is_in_body = False
    _has_body = False
    _n_bodyless_bytes = 0
    """Received within a body since the last of it: trailers, or what describes a chunk."""
    _n_trailer_bytes = 0
    _n_pieces = 0

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            what = f"more than {MAX_PIPELINED} requests wait for the answers before them; read those first"
            self._refusal = (429, "too_many_requests", what)
            raise ValueError(what)  # ends the parsing; data_received answers
        self._is_in_head = True
        self._n_trailer_bytes = self._n_bodyless_bytes = self._n_pieces = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._n_head_bytes > MAX_HEAD_BYTES:
            size_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size_bytes > MAX_HEAD_BYTES:
                what = f"the head is larger than {MAX_HEAD_BYTES:,} bytes"
                self._refusal = (431, "head_too_large", what)
                raise ValueError(what)  # ends the parsing; data_received answers
        codings, length = [], -1
        for name, value in self.headers:
            if name == b"transfer-encoding":
                codings.append(value.strip().lower())
            elif name == b"content-length":
                length = int(value) if len(value) <= MAX_LENGTH_DIGITS else -1
        if codings not in ([], [b"chunked"]):
            self._refusal = (501, "not_implemented", "the only transfer-encoding that is read is chunked")
            raise ValueError("transfer-encoding")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refusal = (501, "not_implemented", "CONNECT is for proxies; this is none")
                raise ValueError("CONNECT")
            self._is_upgrade = True  # _feed gives the head again
            return
        self._is_in_head = False
        self._is_in_body = True
        if self._short_way is not None and not codings and 0 <= length <= MAX_BODY_BYTES and self._is_plain():
            self.cycle = Exchange(self._short_way, self)
            return
        self._begin_cycle()

    def _is_plain(self) -> bool:
        """Whether this is a predict by itself, of which the client awaits nothing but the answer."""
        return (
            self.url == b"/predict"
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and (self.cycle is None or self.cycle.response_complete)
            and not (self.expect_100_continue or self.flow.write_paused or self._shared.is_draining)
        )

    def _begin_cycle(self) -> None:
        """Begin to answer through ASGI."""
        super().on_headers_complete()
        if self._shared.is_draining:
            self.cycle.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            super().on_header(name, value)
            return
        self._n_trailer_bytes += len(name) + len(value) + 4
        if self._n_trailer_bytes > MAX_HEAD_BYTES:
            self._refusal = (431, "trailers_too_large", TRAILERS_TOO_LARGE)
            raise ValueError(TRAILERS_TOO_LARGE)  # ends the parsing; data_received answers

    def on_body(self, body: bytes) -> None:
        self._has_body = True
        self._n_pieces += 1
        if self._n_pieces > MAX_PIECES:
            what = f"the body comes in more than {MAX_PIECES:,} pieces"
            self._refusal = (413, "too_many_pieces", what)
            raise ValueError(what)  # ends the parsing; data_received answers
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return
        self._is_in_body = False
        self._shared.arriving.pop(self, None)
        self._receiving_since_s = None
        self._n_head_bytes = 0
        exchange = self.cycle
        if type(exchange) is not Exchange:
            super().on_message_complete()
        elif not exchange.response_complete and self._short_way is not None:
            exchange.more_body = False
            if not self._short_way.take(exchange, self.headers):
                exchange.response_complete = True  # by another
                self._begin_cycle()
                super().on_body(exchange.body)
                super().on_message_complete()

    def reply(self, exchange: Exchange, status: int, headers: Headers, payload: bytes) -> None:
        """Send the answer of an exchange."""
        exchange.response_started = exchange.response_complete = True
        if exchange.disconnected:
            return
        content = [STATUS_LINE[status]]
        for name, value in self._shared.default_headers:
            content += (name, b": ", value, b"\r\n")
        for name, value in headers:
            content += (name, b": ", value, b"\r\n")
        if not exchange.keep_alive:
            content.append(b"connection: close\r\n")
        content += (b"\r\n", payload)
        try:
            self.transport.write(b"".join(content))
        except RuntimeError:  # reset, and closed by uvloop before connection_lost() said so
            return
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        # As uvicorn does, but for its timer on every idle connection: reap() looks after those.
        self._shared.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
        if self.pipeline or self._is_refused:
            self.flow.pause_reading()
        if self._receiving_since_s is None and not self.pipeline and not self.transport.is_closing():
            self._shared.idle[self] = None

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Still answer a client that closed its side behind a whole request."""
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self.cycle.keep_alive = False
            return True
        return None

    def make_room(self) -> None:
        """Close an idle connection for a new one."""
        self._shared.idle.pop(self, None)
        self.transport.close()

    def reap(self, now_s: float) -> None:
        """Close it when the client takes too long to send or to read."""
        if self._receiving_since_s is not None:
            if now_s - self._receiving_since_s > REQUEST_TIMEOUT_S:
                what = f"the request did not arrive within {REQUEST_TIMEOUT_S:.0f} s"
                self.refuse(408, "request_timeout", what)
        elif self.transport.get_write_buffer_size():
            if now_s - self._last_event_s > UNREAD_TIMEOUT_S:
                self.transport.abort()
        elif (self.cycle is None or self.cycle.response_complete) and now_s - self._last_event_s > KEEP_ALIVE_S:
            self.transport.close()

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answer without the application, and close."""
        self._shared.idle.pop(self, None)
        self._shared.arriving.pop(self, None)
        self._receiving_since_s = None
        self._is_refused = True
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_complete and self._is_in_body:
            self.transport.close()  # it has its answer; what else came of it was only read away
            return
        self._shared.refused(status)
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self.cycle.keep_alive = False  # a whole request before this one is answered first
            self.flow.pause_reading()
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(bare_answer(status, code, message))
        self.transport.close()
