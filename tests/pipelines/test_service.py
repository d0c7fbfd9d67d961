"""The server as a process of its own: started, asked, stopped, and heard when it fails."""

import os
import socket
import sys
from pathlib import Path

import pytest

from pipelines.errors import ArtefactError, TryAgainError
from pipelines.service import free_port, predict, running_service
from tests.inference.tiny_bundle import article_id, customer_id, write_bundle


def test_a_bundle_is_served_and_the_server_is_gone_afterwards(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with running_service(str(bundle), environment=os.environ, log_path=tmp_path / "log") as address:
        answer = predict(address, {"customer_id": customer_id(1), "top_k": 3})
        assert answer["source"] == "personal"
        assert answer["recommendations"][0] == article_id(3)  # bought the day before: lifted most by the tiny graph
    host, port = address.removeprefix("http://").split(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


def test_a_refused_request_carries_the_servers_words(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with (
        running_service(str(bundle), environment=os.environ, log_path=tmp_path / "log") as address,
        pytest.raises(ArtefactError, match=r"answered 4\d\d: .*top_k"),
    ):
        predict(address, {"top_k": 0})


def test_a_server_that_stops_while_starting_is_quoted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('no such champion', file=sys.stderr); sys.exit(4)"]
    with (
        pytest.raises(ArtefactError, match=r"(?s)stopped while starting, with exit code 4.*no such champion"),
        running_service("x", environment=os.environ, log_path=tmp_path / "log", command=command),
    ):
        pytest.fail("it was never live")


def test_a_server_that_never_gets_live_is_stopped(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    with (
        pytest.raises(TryAgainError, match=r"not live at http://127\.0\.0\.1:\d+/healthz after 1 s"),
        running_service(
            "x",
            environment=os.environ,
            log_path=tmp_path / "log",
            start_timeout_seconds=1,
            command=[sys.executable, "-c", code],
        ),
    ):
        pytest.fail("it was never live")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_no_server_at_the_address_says_so() -> None:
    with pytest.raises(TryAgainError, match="got no answer"):
        predict(f"http://127.0.0.1:{free_port()}", {})
