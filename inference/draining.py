"""A server that loses no request when it is told to stop, and looks after its connections while it runs."""

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Callable

import uvicorn

from inference.protocol import Connection, ConnectionState

# Long enough for handshakes under way to end, and for a busy client to send the request that its connection closes on.
SETTLE_S = 0.5
SO_ATTACH_FILTER = 26  # from asm-generic/socket.h; Python has no name for it
# Classic BPF over a TCP segment: drop what asks for a new connection (SYN without ACK), pass the rest.
_DROP_SYN = [(0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]


class DrainingServer(uvicorn.Server):
    """uvicorn's server, with an orderly end.

    On SIGTERM: `on_drain` is called (readiness turns red) · for `drain_seconds` all goes on, while those who send
    requests here learn of the end · new connections are no longer answered, so that clients try elsewhere, and those
    already in the backlog are taken · each open connection gets its answer and closes · the listener closes.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ConnectionState,
        *,
        drain_seconds: float = 0.0,
        on_drain: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self.server_state: ConnectionState = state
        self._drain_seconds = drain_seconds
        self._on_drain = on_drain
        self._listeners: list[socket.socket] = []
        self._accepting: set[asyncio.Task[object]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        self._listeners = sockets or []
        await super().startup(sockets)

    def accept_waiting(self) -> None:
        """Take all connections that wait to be accepted.

        The event loop takes one in a turn. In an overload a turn is long, and a client would wait for as many as there
        are clients before it.
        """
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # none waits, or no file is left for it
                while True:
                    client, _ = listener.accept()
                    client.setblocking(False)
                    task = loop.create_task(loop.connect_accepted_socket(self._connection, client))
                    self._accepting.add(task)
                    task.add_done_callback(self._accepting.discard)

    def _connection(self) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state)

    async def on_tick(self, counter: int) -> bool:
        """Take who waits, and look once a second for clients that take too long."""
        self.accept_waiting()
        if counter % 10 == 0:
            now_s = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.reap(now_s)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop in the order above."""
        self._on_drain()
        await asyncio.sleep(self._drain_seconds)
        for listener in sockets or []:
            ignore_new_connections(listener)
        self.server_state.is_draining = True
        if self.server_state.connections:
            await asyncio.sleep(SETTLE_S)
        self.accept_waiting()
        while self._accepting:
            await asyncio.wait(self._accepting)
        await super().shutdown(sockets)


def ignore_new_connections(listener: socket.socket) -> None:
    """Let a listening socket ignore new handshakes while it finishes those under way.

    Closing a listener resets every connection in its backlog. A SYN that is ignored is sent again a second later, when
    the socket is closed or another pod has the address.
    """
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in _DROP_SYN)
    buffer = ctypes.create_string_buffer(program)
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(buffer))
        )
    except OSError as error:
        if error.errno not in (
            errno.EPERM,
            errno.ENOPROTOOPT,
            errno.ENOSYS,
        ):  # a sandbox without filters drains less well
            raise
