"""Real parts that tests of every package use: a real S3 server, and a lake of either kind."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipelines.lake import Lake, open_lake
from pipelines.logs import configure_logging

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ACCESS_KEY, SECRET_KEY = "lake-tests", "lake-tests-secret"  # what the server started here is told to accept
START_TIMEOUT_SECONDS = 60  # 3 s on an idle machine
START_ATTEMPTS = 3
GRPC_OFFSET = 10_000  # weed listens for gRPC on each port + 10000
PR_SET_PDEATHSIG = 1


@dataclass
class S3Server:
    """A running server; `environment` is what a process needs to reach it through boto3."""

    endpoint: str
    process: "subprocess.Popen[bytes]"
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @cached_property
    def client(self) -> "S3Client":
        """Give a client of this server's owner; made once, because that takes 0.2 s."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start SeaweedFS for this session (under pytest-xdist: for this worker) and stop it at the end."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    config = {
        "identities": [
            {
                "name": "tests",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
            {
                "name": "reader",
                "credentials": [{"accessKey": "reader", "secretKey": "reader-secret"}],
                "actions": ["Read", "List"],
            },
        ]
    }
    (folder / "s3.json").write_text(json.dumps(config))
    (folder / "data").mkdir()
    for attempt in range(START_ATTEMPTS):
        server = _start(folder)
        try:
            _wait_until_ready(server, folder / "weed.log")
            break
        except PortTakenError:
            if attempt == START_ATTEMPTS - 1:
                raise
    try:
        yield server
        if "client" in vars(server):
            server.client.close()
    finally:
        server.process.kill()
        server.process.wait()


def _start(folder: Path) -> S3Server:
    s3_port, *others = free_ports(4)
    command = [
        str(Path(sys.executable).with_name("weed")),
        f"-logdir={folder}",
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder / 'data'}",
        "-filer",
        "-s3",
        f"-s3.port={s3_port}",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=500",
        "-volume.preStopSeconds=0",
        "-master.volumeSizeLimitMB=256",
        *(f"-{part}.port={port}" for part, port in zip(("master", "volume", "filer"), others, strict=True)),
    ]
    with (folder / "weed.log").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A bucket grows by 7 volumes at once unless told otherwise: too many files for a bucket per test.
            env=os.environ | {"GOMEMLIMIT": "400MiB", "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
            preexec_fn=_die_with_parent,  # a killed test run leaves no server behind
        )
    return S3Server(f"http://127.0.0.1:{s3_port}", process)


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a fresh bucket's name, with AWS_* set so that boto3 in this test and its children finds it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{os.urandom(6).hex()}"
    s3_server.client.create_bucket(Bucket=bucket)
    return bucket


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    """Give an empty lake, once in a folder and once on S3."""
    if request.param == "folder":
        yield open_lake(str(tmp_path / "lake"))
    else:
        opened = open_lake(f"s3://{request.getfixturevalue('s3_bucket')}/some/prefix")
        yield opened
        opened.close()


@pytest.fixture
def folder_lake(tmp_path: Path) -> Lake:
    """Give a lake for what does not depend on where it is stored."""
    return open_lake(str(tmp_path / "lake"))


@pytest.fixture(autouse=True)
def _quiet_logs() -> None:
    """Send events to stderr as in a pod, from warnings up; a test of events configures its own level."""
    configure_logging("warning")


def free_ports(n: int) -> list[int]:
    """Find ports that are free now, each with its gRPC port; held together so that none comes twice."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < n:
            port = _bind(held, 0)
            if port is not None and port + GRPC_OFFSET < 65_536 and _bind(held, port + GRPC_OFFSET) is not None:
                found.append(port)
    return found


def _bind(held: ExitStack, port: int) -> int | None:
    probe = held.enter_context(socket.socket())
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return None
    return int(probe.getsockname()[1])


class PortTakenError(RuntimeError):
    """The server ended: somebody took one of its ports between the look and the start."""


def _wait_until_ready(server: S3Server, log: Path) -> None:
    """Wait until the server refuses an unsigned request: then its identities are loaded."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise PortTakenError(f"SeaweedFS ended; its log ends with:\n{log.read_text(errors='replace')[-3000:]}")
        try:
            urllib.request.urlopen(server.endpoint, timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 403:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"SeaweedFS is not ready; its log ends with:\n{log.read_text(errors='replace')[-3000:]}")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
