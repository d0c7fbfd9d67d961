"""A real server on a free port, in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.inference.tiny_bundle import write_bundle

START_TIMEOUT_S = 60


@dataclass
class Server:
    """A running `python -m inference` and what it has logged so far."""

    process: "subprocess.Popen[bytes]"
    log_path: Path
    url: str = ""

    def events(self, name: str = "") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if not name or line["event"] == name]

    def predict(self, document: Any = None, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", json={} if document is None else document, headers=headers)

    def send(self, body: bytes) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", content=body)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path)

    def wait_for(self, claim: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log_path.read_text()
            with contextlib.suppress(httpx.TransportError):
                if claim():
                    return
            time.sleep(0.05)
        raise AssertionError(f"not seen: {what}; the log:\n{self.log_path.read_text()}")

    def wait_for_version(self, version: str) -> None:
        self.wait_for(lambda: self.get("/healthz").json().get("model_version") == version, f"version {version}")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@contextlib.contextmanager
def running(folder: Path, command: list[str], environment: dict[str, str]) -> Iterator[Server]:
    log_path = folder / f"server-{time.monotonic_ns()}.log"
    defaults = {
        "API_HOST": "127.0.0.1",
        "API_PORT": "0",
        "MODEL_POLL_SECONDS": "0.1",
        "MODEL_CACHE": str(folder / "cache"),
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log, env=os.environ | defaults | environment)
    server = Server(process, log_path)
    try:
        server.wait_for(lambda: server.events("listening"), "listening")
        server.url = f"http://127.0.0.1:{server.events('listening')[0]['port']}"
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers by their environment; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*, command: list[str] | None = None, **environment: str) -> Server:
            line = command or [sys.executable, "-W", "error", "-m", "inference"]
            return stack.enter_context(running(tmp_path, line, environment))

        yield start


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Give a registry of two bundles, v1 and v2, that like another article best; v1 is champion."""
    registry = tmp_path / "registry"
    write_bundle(registry / "bundles" / "v1", version="v1", best=1)
    write_bundle(registry / "bundles" / "v2", version="v2", best=2)
    promote(registry, "v1")
    return registry


def promote(registry: Path, version: str) -> None:
    """Name the champion."""
    replace_text(registry / "champion.json", json.dumps({"version": version}))


def replace_text(path: Path, text: str) -> None:
    """Write a file so that nobody reads half of it."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bundle that no test may change."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "v1")


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server of the tiny bundle that no test may stop."""
    command = [sys.executable, "-W", "error", "-m", "inference"]
    with running(tmp_path_factory.mktemp("server"), command, {"MODEL_URI": str(tiny_bundle)}) as server:
        server.wait_for_version("v1")
        yield server
