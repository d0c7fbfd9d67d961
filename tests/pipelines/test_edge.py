"""How every `python -m pipelines…` ends: real processes, their exit codes and what they print."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import errors

PROGRAM = """
import os, signal, sys, warnings
import typer
import pipelines.errors
from pipelines.edge import run_app
from pipelines.logs import get_logger, log_context

app = typer.Typer()

@app.command()
def command(what: str, n_rows: int = 1) -> None:
    match what:
        case "answer":
            get_logger().debug("hidden")
            with log_context(run_id="r1", step="eda"):
                get_logger().info("step_started", n_rows=n_rows, name="Größe")
            print("the result")
        case "warn":
            warnings.warn("old spelling")
        case "bug":
            {}["missing"]
        case "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        case name:
            raise getattr(pipelines.errors, name)(
                "article_id '108775015' has 9 characters\\n  - transactions.csv line 8812"
            )

if __name__ == "__main__":
    run_app(app)
"""


def run(
    tmp_path: Path, *arguments: str, stderr: int = subprocess.PIPE, **environment: str
) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "program.py").write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin", "NO_COLOR": "1"} | environment,
    )


def test_results_go_to_stdout_and_events_to_stderr_as_json(tmp_path: Path) -> None:
    done = run(tmp_path, "answer", "--n-rows", "3")
    assert (done.returncode, done.stdout) == (0, "the result\n")
    (event,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "step_started", "level": "info", "run_id": "r1", "step": "eda", "n_rows": 3, "name": "Größe",
    }  # fmt: skip


def test_the_level_is_taken_from_the_environment(tmp_path: Path) -> None:
    assert [json.loads(line)["event"] for line in run(tmp_path, "answer", LOG_LEVEL="DEBUG").stderr.splitlines()] == [
        "hidden",
        "step_started",
    ]
    assert run(tmp_path, "answer", LOG_LEVEL="error").stderr == ""


def test_an_unknown_level_is_a_usage_error(tmp_path: Path) -> None:
    done = run(tmp_path, "answer", LOG_LEVEL="loud")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: LOG_LEVEL is 'loud'; it is one of debug, info, warning, error, critical\n"


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [("DataGateError", 3), ("LakeUnreachable", 75)],
)
def test_errors_print_once_without_traceback_and_exit_with_their_code(
    tmp_path: Path, error: str, exit_code: int
) -> None:
    done = run(tmp_path, error)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr == "error: article_id '108775015' has 9 characters\n  - transactions.csv line 8812\n"


def test_a_bug_keeps_its_traceback_and_exits_with_1(tmp_path: Path) -> None:
    done = run(tmp_path, "bug")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.endswith("KeyError: 'missing'\n")
    assert done.stderr.count("Traceback") == 1


@pytest.mark.parametrize("arguments", [["answer", "--n-row", "3"], ["answer", "--n-rows", "many"], []])
def test_wrong_options_exit_with_2(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_misspelled_option_gets_the_nearest(tmp_path: Path) -> None:
    assert "--n-rows" in run(tmp_path, "answer", "--n-row", "3").stderr


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    done = run(tmp_path, "interrupt")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_warnings_of_libraries_are_events_too(tmp_path: Path) -> None:
    done = run(tmp_path, "warn")
    (event,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert event["level"] == "warning"
    assert "old spelling" in event["event"]


def test_exit_codes_are_the_documented_ones() -> None:
    """0 and 1 are Python's own; these tell Argo and people what to do."""
    codes = {kind.__name__: kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert codes == {
        "PipelineError": 1,
        "UsageError": 2,
        "LakeRefused": 2,
        "DataGateError": 3,
        "ArtefactError": 4,
        "LakeKeyMissing": 4,
        "LakeDamaged": 4,
        "TryAgainError": 75,
        "LakeConflict": 75,
        "LakeUnreachable": 75,
        "LakeFull": 75,
    }


def test_on_a_terminal_events_are_set_for_people(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    run(tmp_path, "answer", stderr=theirs)
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "step_started" in said
    assert "{" not in said
