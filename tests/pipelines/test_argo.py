"""The client and the command line against a real HTTP server that replays what a real Argo Server answered."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipelines import argo
from pipelines.errors import TryAgainError, UsageError
from pipelines.submit import app

RECORDED = Path(__file__).parents[2].parent / "shared/argo-api"
SUBMIT = ("POST", "/api/v1/workflows/ml/submit")

Exchange = dict[str, Any]


def recorded(name: str) -> list[Exchange]:
    if not RECORDED.is_dir():
        pytest.skip(f"{RECORDED} with the recorded exchanges is not here")
    [path] = RECORDED.glob(f"{name}*.json")
    exchanges: list[Exchange] = json.loads(path.read_text())["exchanges"]
    return exchanges


@dataclass
class Replay:
    """Answers are given in order for each method and path; the last one again and again."""

    url: str
    answers: dict[tuple[str, str], list[tuple[int, bytes]]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)

    def add(self, exchange: Exchange, *, method: str = "", path: str = "") -> None:
        request, response = exchange["request"], exchange["response"]
        body = response.get("body_text_exact") or json.dumps(response["body_json"])
        self.answer(method or request["method"], path or request["path"], response["status"], body)

    def answer(self, method: str, path: str, status: int, body: str) -> None:
        self.answers.setdefault((method, path), []).append((status, body.encode()))

    def take(self, method: str, path: str) -> tuple[int, bytes]:
        queue = self.answers.get((method, path), [(501, b'{"code": 12, "message": "Not Implemented"}')])
        return queue.pop(0) if len(queue) > 1 else queue[0]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            replay.requests.append((self.command, self.path, dict(self.headers), body))
            status, answer = replay.take(self.command, self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    replay = Replay(f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("ARGO_SERVER", replay.url)
    monkeypatch.setenv("ARGO_TOKEN", "Bearer sesame")
    monkeypatch.setenv("ARGO_NAMESPACE", "ml")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("S3_DATA_LAKE_BUCKET", raising=False)
    yield replay
    listening.shutdown()
    thread.join()
    listening.server_close()


def settings(url: str) -> argo.ArgoSettings:
    found, problems = argo.argo_settings({"ARGO_SERVER": url, "ARGO_NAMESPACE": "ml", "ARGO_TOKEN": "sesame"})
    assert problems == []
    assert found is not None
    return found


def submit(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--poll-seconds", "0.05"])


def last_line(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document


def test_submitted_run_is_waited_for_until_it_has_succeeded(server: Replay) -> None:
    exchanges = recorded("02_submit")
    for exchange in [exchanges[0], *exchanges[1:17:5], exchanges[16]]:
        server.add(exchange)
    result = submit("--wait", "--json", "--cutoff-date", "2020-09-16", "-p", 'hyperparameters={"hidden": 8}')
    assert result.exit_code == 0, result.stderr
    outcome = last_line(result)
    assert outcome["run_id"] == "ml-pipeline-2cq8k"
    assert outcome["status"] == "Succeeded"
    assert set(outcome["seconds"]) == {"ingest", "process", "eda", "train"}
    assert all(seconds > 0 for seconds in outcome["seconds"].values())

    method, path, headers, body = server.requests[0]
    assert (method, path) == SUBMIT
    assert headers["Authorization"] == "Bearer sesame"
    name = body["submitOptions"].pop("name")
    assert name.startswith("ml-training-pipeline-20")
    assert body == {
        "namespace": "ml",
        "resourceKind": "WorkflowTemplate",
        "resourceName": "ml-training-pipeline",
        "submitOptions": {"parameters": ['hyperparameters={"hidden": 8}', "cutoff-date=2020-09-16"]},
    }


def test_without_wait_nothing_is_asked_after_submitting(server: Replay) -> None:
    server.add(recorded("02_submit")[0])
    result = submit("--json")
    assert result.exit_code == 0
    assert last_line(result)["status"] == "Submitted"
    assert len(server.requests) == 1


def test_run_without_phase_and_pending_is_waited_for(server: Replay) -> None:
    exchanges = recorded("02b_pending")
    for exchange in exchanges[2:]:
        server.add(exchange)
    seen: list[str] = []
    ended = argo.wait(
        settings(server.url),
        "mutex-7cqxb",
        on_poll=lambda workflow: seen.append(argo.phase(workflow)),
        on_trouble=seen.append,
        poll_seconds=0.05,
    )
    assert seen == [*["Pending"] * 4, *["Running"] * 3, "Succeeded"]
    assert argo.phase(ended) == "Succeeded"


def test_failed_run_gives_the_step_s_exit_code_and_where_its_log_is(server: Replay) -> None:
    exchanges = recorded("05_failure")
    for exchange in [exchanges[0], exchanges[1], exchanges[3], exchanges[8]]:
        server.add(exchange)
    result = submit("--wait", "--json")
    assert result.exit_code == 3
    outcome = last_line(result)
    assert outcome["status"] == "Failed"
    assert outcome["failed_step"] == "process"
    assert "exit code 3" in outcome["error"]
    assert "argo logs ml-pipeline-5npdz -n ml" in outcome["error"]
    assert "error: step process failed" in result.stderr


def test_pod_killed_for_memory_gives_137(server: Replay) -> None:
    server.add(recorded("06_retry")[7])
    [(_, path)] = server.answers
    ended = argo.wait(settings(server.url), path.rpartition("/")[2], on_poll=lambda _: None, on_trouble=lambda _: None)
    assert argo.failure(ended).exit_code == 137
    assert "OOMKilled" in argo.failure(ended).message


def test_time_of_a_retried_step_covers_all_attempts(server: Replay) -> None:
    server.add(recorded("06_retry")[3])
    [(_, path)] = server.answers
    ended = argo.wait(settings(server.url), path.rpartition("/")[2], on_poll=lambda _: None, on_trouble=lambda _: None)
    assert argo.seconds_by_step(ended) == {"main": 20.0}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (2, ["not found", 'workflowtemplates.argoproj.io "nope" not found', "template was applied"]),
        (20, ["not logged in", "ARGO_TOKEN"]),
        (25, ["has no right", "ARGO_NAMESPACE", "cannot create"]),
        (6, ["exists already"]),
        (14, ["refused by the server", "not supported for submitting"]),
    ],
    ids=["404", "401", "403", "409", "400"],
)
def test_refusal_is_explained_and_exits_2(server: Replay, number: int, words: list[str]) -> None:
    server.add(recorded("08_errors")[number], method="POST", path=SUBMIT[1])
    result = submit()
    assert isinstance(result.exception, UsageError)
    message = str(result.exception)
    assert all(word in message for word in words), message
    assert server.url in message
    assert "sesame" not in message + repr(settings(server.url))


def test_trouble_while_waiting_is_told_and_outlived(server: Replay) -> None:
    exchanges = recorded("02_submit")
    path = exchanges[16]["request"]["path"]
    server.answer("GET", path, 503, "upstream connect error")
    server.answer("GET", path, 429, '{"code": 8, "message": "too many requests"}')
    server.add(exchanges[16])
    told: list[str] = []
    ended = argo.wait(
        settings(server.url), "ml-pipeline-2cq8k", on_poll=lambda _: None, on_trouble=told.append, poll_seconds=0.05
    )
    assert argo.phase(ended) == "Succeeded"
    assert ["upstream connect error" in told[0], "too many requests" in told[1]] == [True, True]


def test_run_deleted_while_waiting_ends_the_wait(server: Replay) -> None:
    exchange = recorded("05_failure")[28]
    server.add(exchange)
    with pytest.raises(UsageError, match="not found"):
        argo.wait(settings(server.url), "ml-pipeline-42cjk", on_poll=lambda _: None, on_trouble=lambda _: None)


def test_fields_of_a_newer_server_are_no_trouble(server: Replay) -> None:
    exchange = recorded("02_submit")[16]
    exchange["response"].pop("body_text_exact", None)
    exchange["response"]["body_json"]["status"]["newInArgo5"] = {"a": 1}
    server.add(exchange)
    ended = argo.wait(settings(server.url), "ml-pipeline-2cq8k", on_poll=lambda _: None, on_trouble=lambda _: None)
    assert argo.phase(ended) == "Succeeded"


def test_base_path_of_the_server_is_kept(server: Replay) -> None:
    server.add(recorded("02_submit")[0], method="POST", path="/argo" + SUBMIT[1])
    assert argo.submit(settings(f"{server.url}/argo"), "run-1", {}) == "ml-pipeline-2cq8k"


def test_page_of_something_else_is_recognised(server: Replay) -> None:
    server.answer(*SUBMIT, 200, "<html>please log in</html>")
    with pytest.raises(UsageError, match="not JSON"):
        argo.submit(settings(server.url), "run-1", {})


def test_refused_connection_asks_to_try_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TryAgainError, match="no connection; check ARGO_SERVER") as raised:
        argo.submit(settings(f"http://127.0.0.1:{port}"), "run-1", {})
    assert raised.value.exit_code == 75


def test_missing_settings_are_all_named() -> None:
    found, problems = argo.argo_settings({})
    assert found is None
    assert "ARGO_SERVER is not set" in problems[0]
    assert "--local" in problems[0]
    assert "ARGO_NAMESPACE is not set" in problems[1]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"ARGO_SERVER": "argo:2746"}, "https://argo:2746/"),
        ({"ARGO_SERVER": "argo:2746", "ARGO_SECURE": "false"}, "http://argo:2746/"),
        ({"ARGO_SERVER": "https://host/argo/"}, "https://host/argo/"),
    ],
)
def test_server_is_read_as_argo_s_command_line_reads_it(environ: dict[str, str], expected: str) -> None:
    found, _ = argo.argo_settings(environ | {"ARGO_NAMESPACE": "ml"})
    assert found is not None
    assert found.server == expected


def test_ctrl_c_leaves_the_run_and_says_how_to_stop_it(server: Replay) -> None:
    exchanges = recorded("02_submit")
    server.add(exchanges[0])
    server.add(exchanges[3])
    command = [sys.executable, "-m", "pipelines.submit", "--wait", "--json", "--poll-seconds", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        for _ in range(400):
            if len(server.requests) > 2:
                break
            time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        output, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 130, errors
    assert json.loads(output.splitlines()[-1])["status"] == "Running"
    assert "argo stop ml-pipeline-2cq8k -n ml" in errors
    assert "Traceback" not in errors
