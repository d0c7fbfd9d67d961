"""Run the inference server as a process of its own, as a pod would, and ask it things."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import ArtefactError, TryAgainError

SERVER = (sys.executable, "-m", "inference")
POLL_SECONDS = 0.1
STOP_SECONDS = 10  # longer than the server's own grace period for requests under way
LAST_WORDS = 5  # lines of its log that an error message repeats


@contextmanager
def running_service(
    model_uri: str,
    *,
    environment: Mapping[str, str],
    log_path: Path,
    start_timeout_seconds: float = 60,
    command: Sequence[str] = SERVER,
) -> Iterator[str]:
    """Start the server on a free local port, give its address once it is live, and stop it at the end.

    `environment` is what the process inherits; its log goes to `log_path`.
    Raises ArtefactError when it stops by itself while starting, TryAgainError when it is not live in time.
    """
    port = free_port()
    own = {"API_HOST": "127.0.0.1", "API_PORT": str(port), "MODEL_URI": model_uri}
    with log_path.open("wb") as log:
        process = subprocess.Popen(list(command), env=dict(environment) | own, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _await_live(process, address, log_path, start_timeout_seconds)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def predict(address: str, request: Mapping[str, Any], timeout_seconds: float = 10) -> dict[str, Any]:
    """Send one `POST /predict` and give the answer; ArtefactError carries the server's own message if it refuses."""
    post = urllib.request.Request(
        f"{address}/predict", json.dumps(request).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(post, timeout=timeout_seconds) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        with error:
            words = error.read().decode(errors="replace").strip()
        raise ArtefactError(
            f"POST {address}/predict with {json.dumps(request)} was answered {error.code}: {words}"
        ) from error
    except OSError as error:
        raise TryAgainError(f"POST {address}/predict got no answer: {error}") from error


def free_port() -> int:
    """Find a local TCP port that nobody listens on; it is free now, so use it at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_live(process: "subprocess.Popen[bytes]", address: str, log_path: Path, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not _is_live(address):
        if process.poll() is not None:
            raise ArtefactError(
                f"the service stopped while starting, with exit code {process.returncode}; it said:\n"
                f"{_last_words(log_path)}"
            )
        if time.monotonic() > deadline:
            raise TryAgainError(
                f"the service is not live at {address}/healthz after {timeout_seconds:g} s; it said:\n"
                f"{_last_words(log_path)}"
            )
        time.sleep(POLL_SECONDS)


def _is_live(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:  # not listening yet, or 503 (an HTTPError is one): not live either way
        return False


def _last_words(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").strip().splitlines()[-LAST_WORDS:]
    return "\n".join(f"  {line}" for line in lines) or "  (nothing)"
