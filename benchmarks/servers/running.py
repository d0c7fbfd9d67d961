"""Start a server on one core, send it load from another, and read what it used."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVER_CORE, LOAD_CORE = "0", "1"
START_TIMEOUT_S = 60.0
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Service:
    """One server: how it is started on a port, and how a request is put to it."""

    name: str
    command: Callable[[int], Sequence[str]]
    environment: Callable[[int], dict[str, str]]
    path: str = "/predict"
    wrap: Callable[[str], str] = lambda body: body
    unwrap: Callable[[Any], Any] = lambda answer: answer
    folder: Path = REPOSITORY


@dataclass
class Running:
    """A server that answers, and its processes."""

    service: Service
    process: subprocess.Popen[bytes]
    port: int
    start_seconds: float
    log: Path
    bodies: Path = field(default_factory=Path)

    def cpu_seconds(self) -> float:
        """Sum the processor time of the server and all its descendants, exited threads included."""
        return sum(_cpu_seconds(pid) for pid in self.pids())

    def rss_bytes(self) -> int:
        """Sum resident memory that is not shared, plus the shared part of the largest process."""
        own, shared = 0, 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/statm").read_text().split()
                own += (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
                shared = max(shared, int(fields[2]) * os.sysconf("SC_PAGE_SIZE"))
        return own + shared

    def own_bytes(self) -> int:
        """Sum the memory that no file backs: what cannot be dropped when it gets tight."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
        return total

    def pids(self) -> list[int]:
        """List the process and its descendants."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def load(self, bodies: Path, *, seconds: float, connections: int = 32, rate: float = 0.0) -> dict[str, Any]:
        """Send load and return its figures, with the server's `cpu_us` for each answer."""
        before_s = self.cpu_seconds()
        figures = send(self.service, self.port, bodies, seconds=seconds, connections=connections, rate=rate)
        used_s = self.cpu_seconds() - before_s
        n_answers = sum(count for status, count in figures["statuses"].items() if status.isdigit())
        return figures | {"cpu_us": 1e6 * used_s / max(1, n_answers)}


def send(
    service: Service, port: int, bodies: Path, *, seconds: float, connections: int = 32, rate: float = 0.0
) -> dict[str, Any]:
    """Run the load process to its end."""
    answer = subprocess.run(
        _load_command(service, port, bodies, seconds, connections, rate),
        stdout=subprocess.PIPE,
        check=True,
        cwd=REPOSITORY,
        text=True,
    )
    figures: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def start_load(
    service: Service, port: int, bodies: Path, *, seconds: float, connections: int = 32, rate: float = 0.0
) -> subprocess.Popen[str]:
    """Start the load process; communicate() gives its figures on the last line."""
    command = _load_command(service, port, bodies, seconds, connections, rate)
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True)


def _load_command(
    service: Service, port: int, bodies: Path, seconds: float, connections: int, rate: float
) -> list[str]:
    options = {"port": port, "path": service.path, "bodies": bodies, "seconds": seconds}
    options |= {"connections": connections, "rate": rate}
    line = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return ["taskset", "-c", LOAD_CORE, sys.executable, "-m", "benchmarks.servers.load", *line]


@contextlib.contextmanager
def running(
    service: Service, body: str, log: Path, *, core: str = SERVER_CORE, before_exec: Callable[[], None] | None = None
) -> Iterator[Running]:
    """Start a server pinned to one core and wait for its first good answer; RuntimeError shows its log otherwise."""
    port = free_port()
    command = ["taskset", "-c", core, *service.command(port)]
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=service.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | service.environment(port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=before_exec,
        )
    try:
        while True:
            with contextlib.suppress(OSError, urllib.error.HTTPError):
                ask(service, port, body)
                break
            if process.poll() is not None or time.perf_counter() - started > START_TIMEOUT_S:
                raise RuntimeError(f"{service.name} does not answer; the end of its log:\n{log.read_text()[-2000:]}")
            time.sleep(0.005)
        yield Running(service, process, port, time.perf_counter() - started, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(service: Service, port: int, body: str) -> Any:
    """Send one request by itself and return the answer in our form."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{service.path}",
        data=service.wrap(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return service.unwrap(json.loads(answer.read()))


def free_port() -> int:
    """Give a port that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _cpu_seconds(pid: int) -> float:
    # The clock of another process: clock_getcpuclockid(3) builds its number like this.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0
