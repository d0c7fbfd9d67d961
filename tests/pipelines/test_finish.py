import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.finish import figures_of, read_failures
from pipelines.lake import open_lake
from pipelines.outcome import Outcome
from pipelines.steps.step import run_step

TRAINED = Outcome(
    run_id="run-1",
    status="Succeeded",
    promoted=True,
    metrics={"map_at_12": 0.0301},
    baselines={"popularity": {"map_at_12": 0.0081}, "repurchase": {"map_at_12": 0.0242}, "other": {"map_at_12": None}},
)
FAILED_NODES = [{"templateName": "train", "phase": "Failed", "message": "Error (exit code 3)"}]


def test_figures_are_of_the_model_and_of_the_best_rule() -> None:
    assert figures_of(TRAINED) == {"map_at_12": 0.0301, "best_rule_map_at_12": 0.0242, "promoted": 1.0}


def test_run_that_trained_nothing_has_no_figures() -> None:
    assert figures_of(Outcome(run_id="run-1", status="Failed")) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(FAILED_NODES), FAILED_NODES),
        (json.dumps(json.dumps(FAILED_NODES)), FAILED_NODES),  # as Argo quotes it
        ('"null"', []),
        ("null", []),
        ("", []),
    ],
)
def test_failures_are_read_as_argo_writes_them(text: str, expected: list[dict[str, str]]) -> None:
    assert read_failures(text) == expected


@pytest.mark.parametrize("text", ["{{workflow.failures}}", "{}", "[1]", '"train"'])
def test_what_are_no_failures_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--failures"):
        read_failures(text)


def finish(lake: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipelines.finish", "--lake", str(lake), "--run-id", "run-1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_run_s_end_is_one_log_line_and_a_file_for_each_figure(tmp_path: Path) -> None:
    lake, outputs = open_lake(str(tmp_path / "lake")), tmp_path / "outputs"
    facts = {"metrics": {"map_at_12": 0.0000689}, "promoted": False}
    run_step(
        lake, step="train", run_id="run-1", parameters={}, inputs={}, code=["pipelines.errors"], work=lambda _: facts
    )
    done = finish(tmp_path / "lake", "--status", "Succeeded", "--seconds", "51.26", "--outputs", str(outputs))
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"]) == ("run_finished", "info")
    assert (event["run_id"], event["duration_seconds"]) == ("run-1", 51.3)
    # without exponent, which Argo's expressions would not read as a number
    assert {path.name: path.read_text() for path in outputs.iterdir()} == {
        "map_at_12": "0.000069",
        "promoted": "0.000000",
    }


def test_failed_run_is_an_error_in_the_log_with_the_step_that_failed(tmp_path: Path) -> None:
    done = finish(tmp_path / "lake", "--status", "Failed", "--failures", json.dumps(FAILED_NODES))
    assert done.returncode == 0, done.stderr
    event = json.loads(done.stderr)
    assert (event["level"], event["failures"]) == ("error", FAILED_NODES)
    outcome = json.loads(done.stdout)
    assert (outcome["failed_step"], outcome["error"]) == ("train", "Error (exit code 3)")
