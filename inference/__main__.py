"""Start the server: python -m inference."""

# ruff: noqa: E402 - what is set first must be set before the imports

import gc
import os
import resource
import signal
import socket
import sys

gc.disable()  # imports make objects that stay: looking through them again and again is a tenth of the start
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: it starts a thread per host processor otherwise

import uvicorn

from inference.app import create_service
from inference.draining import DrainingServer
from inference.errors import SettingsInvalid
from inference.limits import count_processors, read_memory
from inference.protocol import KEEP_ALIVE_S, MAX_CONNECTIONS, Connection, ConnectionState
from inference.settings import Settings, read_settings
from inference.telemetry import configure_logging, get_logger

BACKLOG = 2048
# Shorter than the 30 s that Kubernetes waits before it kills.
DRAIN_S = 20


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what is under way."""
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        _allow_open_files(MAX_CONNECTIONS + 256)
        listener = _listen(settings, settings.api_port, "API_PORT")
        listeners = [listener]
        if settings.metrics_port is not None:
            listeners.append(_listen(settings, settings.metrics_port, "METRICS_PORT"))
        metrics_port = listeners[-1].getsockname()[1] if listeners[1:] else None
        service = create_service(settings, metrics_port=metrics_port)
    except SettingsInvalid as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    host, port = listener.getsockname()[:2]
    memory = read_memory()
    get_logger().info(
        "listening",
        host=host,
        port=port,
        metrics_port=metrics_port,
        model_uri=settings.model_uri,
        processors=count_processors(),
        memory_limit_bytes=memory.limit_bytes if memory else None,
    )
    config = uvicorn.Config(
        service,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks for a client's address
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    # uvicorn raises the signal again when it has drained; a drained server has done its job, so it ends with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = DrainingServer(
        config,
        ConnectionState(service.refused_early, service.short_way, metrics_port),
        drain_seconds=settings.drain_seconds,
        on_drain=service.start_draining,
    )
    gc.freeze()
    gc.enable()
    server.run(sockets=listeners)
    get_logger().info("drained")


def _allow_open_files(n_files: int) -> None:
    """Raise the soft limit, often 1,024, as far as the hard one lets us: each connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n_files if hard == resource.RLIM_INFINITY else min(n_files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(settings: Settings, port: int, name: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
        return socket.create_server((settings.api_host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # create_server adds the address to its words; a name that is not found has a number that only they explain.
        is_known = error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno or 0) if is_known else str(error.strerror or error).partition(" (while")[0]
        raise SettingsInvalid(
            f"API_HOST={settings.api_host} {name}={port}: cannot listen there ({reason}); "
            "take another port, or 0 for a free one"
        ) from error


if __name__ == "__main__":
    main()
