"""Start the server: python -m inference."""

import os
import signal
import socket
import sys

import uvicorn

from inference.app import create_service
from inference.errors import SettingsInvalid
from inference.settings import Settings, read_settings
from inference.telemetry import configure_logging, get_logger

BACKLOG = 2048
# A load balancer closes idle connections after 60 s; whoever closes first must not be the server.
KEEP_ALIVE_S = 75
# Shorter than the 30 s that Kubernetes waits before it kills.
DRAIN_S = 20


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what is under way."""
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        listener = _listen(settings)
    except SettingsInvalid as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    host, port = listener.getsockname()[:2]
    get_logger().info("listening", host=host, port=port, model_uri=settings.model_uri)
    config = uvicorn.Config(
        create_service(settings),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    # uvicorn raises the signal again when it has drained; a drained server has done its job, so it ends with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
    get_logger().info("drained")


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
        return socket.create_server((settings.api_host, settings.api_port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # create_server adds the address to its own
        raise SettingsInvalid(
            f"API_HOST={settings.api_host} API_PORT={settings.api_port}: cannot listen there ({reason}); "
            "take another port, or 0 for a free one"
        ) from error


if __name__ == "__main__":
    main()
