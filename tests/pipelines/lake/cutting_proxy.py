"""A network that breaks when it is told to, between boto3 and a real server."""

import socket
import threading
from collections.abc import Callable


class CuttingProxy:
    """Stand between boto3 and the real server, and cut the connection in the answer to a chosen request."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self.target = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.n_cut = 0
        self._cut: tuple[bytes, int] | None = None
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []

    def cut_next_answer(self, method: bytes, after_bytes: int = 0) -> None:
        self._cut = (method, after_bytes)

    def __enter__(self) -> "CuttingProxy":
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self.listener, *self._connections):
            _close(connection)
        for thread in self._threads:
            thread.join(10)
        for connection in (self.listener, *self._connections):
            connection.close()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            self._connections += [client, server]
            state: dict[str, int] = {}  # "left": bytes of the answer that still pass
            self._start(self._requests, client, server, state)
            self._start(self._answers, client, server, state)

    def _requests(self, client: socket.socket, server: socket.socket, state: dict[str, int]) -> None:
        while data := _receive(client):
            with self._lock:
                if self._cut and data.startswith(self._cut[0]):
                    state["left"], self._cut = self._cut[1], None
            server.sendall(data)
        _close(server)

    def _answers(self, client: socket.socket, server: socket.socket, state: dict[str, int]) -> None:
        while data := _receive(server):
            # boto3 sends `Expect: 100-continue` with a body: that is not the answer yet.
            if "left" in state and not data.startswith(b"HTTP/1.1 100"):
                if len(data) > state["left"]:
                    _send(client, data[: state["left"]])
                    self.n_cut += 1
                    break
                state["left"] -= len(data)
            _send(client, data)
        _close(client)
        _close(server)


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        _close(connection)


def _close(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
