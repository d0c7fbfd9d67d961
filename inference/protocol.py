"""HTTP/1.1 with limits: what a slow, broken or greedy client may cost, and answers in the envelope to all of them.

uvicorn's parser bounds neither the size of a head, nor the time that a request may take to arrive, nor the number of
connections; and it answers what is not HTTP in plain text.
"""

import asyncio
import secrets
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

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

# Requests of one connection that wait for the answers before them.
MAX_PIPELINED = 64


class ConnectionState(ServerState):
    """What all connections of a server share."""

    def __init__(self, refused: Callable[[int], None]) -> None:
        super().__init__()
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

    def data_received(self, data: bytes) -> None:
        """Parse what came, as uvicorn does, and bound its head."""
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
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

    _is_upgrade = False
    _is_in_head = True
    _is_in_body = False
    _has_body = False
    _n_bodyless_bytes = 0
    """Received within a body since the last of it: trailers, or what describes a chunk."""
    _n_trailer_bytes = 0

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            what = f"more than {MAX_PIPELINED} requests wait for the answers before them; read those first"
            self._refusal = (429, "too_many_requests", what)
            raise ValueError(what)  # ends the parsing; data_received answers
        self._is_in_head = True
        self._n_trailer_bytes = self._n_bodyless_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._n_head_bytes > MAX_HEAD_BYTES:
            size_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size_bytes > MAX_HEAD_BYTES:
                what = f"the head is larger than {MAX_HEAD_BYTES:,} bytes"
                self._refusal = (431, "head_too_large", what)
                raise ValueError(what)  # ends the parsing; data_received answers
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
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
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return
        self._is_in_body = False
        self._shared.arriving.pop(self, None)
        self._receiving_since_s = None
        self._n_head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
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
        elif self.cycle is None:
            if now_s - self._last_event_s > KEEP_ALIVE_S:
                self.transport.close()
        elif self.transport.get_write_buffer_size() and now_s - self._last_event_s > UNREAD_TIMEOUT_S:
            self.transport.abort()

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
            self.transport.write(_answer(status, code, message))
        self.transport.close()


def _answer(status: int, code: str, message: str) -> bytes:
    request_id = secrets.token_hex(8)
    body = orjson.dumps({"error": {"code": code, "message": message, "request_id": request_id}})
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-request-id: {request_id}",
        *(["retry-after: 1"] if status == 503 else []),
        "connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
