import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from pipelines.errors import UsageError
from pipelines.parameters import PARAMETERS
from pipelines.submit import app, new_run_id


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ARGO_SERVER", "ARGO_TOKEN", "ARGO_NAMESPACE", "METRIC_THRESHOLD", "S3_DATA_LAKE_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def submit(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def message(result: Result) -> str:
    assert isinstance(result.exception, UsageError), (result.exit_code, result.output)
    return str(result.exception)


def test_every_mistake_is_said_at_once_and_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRIC_THRESHOLD", "high")
    said = message(
        submit(
            *("--local", "--cutoff-date", "16.09.2020", "--horizon-days", "week", "--backtest", "x"),
            *("-p", "hyperparameters={", "-p", "horizn-days=3", "-p", "lake"),
        )
    )
    assert said.startswith("7 things are wrong")
    for word in ("cutoff-date", "horizon-days = 'week'", "backtest", "hyperparameters", "METRIC_THRESHOLD = 'high'"):
        assert word in said
    assert "did you mean 'horizon-days'?" in said
    assert list(tmp_path.iterdir()) == []


def test_option_and_parameter_that_disagree_are_refused() -> None:
    assert "--source 'a' and as -p source='b'" in message(submit("--local", "--source", "a", "-p", "source=b"))


def test_hyperparameter_that_the_trainer_lacks_is_refused_before_anything_starts(tmp_path: Path) -> None:
    said = message(submit("--local", "-p", 'hyperparameters={"learning_rat": 0.1, "hidden": -1}'))
    assert "did you mean 'learning_rate'?" in said
    assert "hidden" in said
    assert list(tmp_path.iterdir()) == []


def test_run_on_argo_needs_its_server() -> None:
    said = message(submit())
    assert "ARGO_SERVER is not set" in said
    assert "--local" in said


def test_run_on_argo_cannot_read_folders_of_this_machine() -> None:
    said = message(submit("--dry-run", "--source", "../data/hm", "--lake", "file:///lake"))
    assert "source = '../data/hm' is a folder of this machine" in said
    assert "lake = 'file:///lake' is a folder of this machine" in said


def test_dry_run_prints_the_manifest_and_needs_no_server() -> None:
    result = submit("--dry-run", "--source", "s3://shop/raw", "--backtest", "4", "-p", "run-id=mine-1")
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout) == {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "mine-1"},
        "spec": {
            "workflowTemplateRef": {"name": "ml-training-pipeline"},
            "arguments": {
                "parameters": [{"name": "source", "value": "s3://shop/raw"}, {"name": "backtest", "value": "4"}]
            },
        },
    }


def test_local_dry_run_shows_the_commands_too(tmp_path: Path) -> None:
    result = submit("--local", "--dry-run", "--cutoff-date", "2020-09-16")
    assert yaml.safe_load(result.stdout)["kind"] == "Workflow"
    assert re.search(
        r"# process: .* -m pipelines.steps.process --lake ./lake .*--cutoff-date 2020-09-16", result.stdout
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bucket", "lake"),
    [("shop", "s3://shop"), ("s3://shop/x", "s3://shop/x"), ("/data/lake", "/data/lake"), ("", "./lake")],
)
def test_lake_is_the_bucket_of_the_environment(monkeypatch: pytest.MonkeyPatch, bucket: str, lake: str) -> None:
    monkeypatch.setenv("S3_DATA_LAKE_BUCKET", bucket)
    assert f"--lake {lake} " in submit("--local", "--dry-run").stdout


def test_run_ids_sort_by_time_and_differ_within_a_second() -> None:
    now = datetime(2026, 11, 23, 12, 1, 2, tzinfo=UTC)
    assert new_run_id(now, "ab12") == "ml-training-pipeline-20261123-120102-ab12"


def test_failed_step_ends_the_command_with_its_code_log_and_last_words(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.submit", "--local", "--json", "--source", str(tmp_path / "nothing-here")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == 2
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["status"] == "Failed"
    assert outcome["failed_step"] == "ingest"
    assert "nothing-here" in outcome["error"]
    assert "Traceback" not in done.stderr
    log = Path(re.search(r"log: (\S+)", done.stderr)[1])  # type: ignore[index]
    assert "nothing-here" in log.read_text()
    assert log.is_relative_to(tmp_path / "lake/runs" / outcome["run_id"])


def test_the_help_names_every_parameter_with_its_default() -> None:
    shown = " ".join(submit("--help").stdout.replace("│", " ").split())
    for parameter in PARAMETERS:
        option = f"--{parameter.name} " in shown
        assert option or f"{parameter.name}={parameter.default}: " in shown, parameter.name


def test_wrong_use_exits_2_with_one_error_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.submit", "--local", "-p", "horizn-days=3"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: unknown parameter 'horizn-days'; did you mean 'horizon-days'?\n"
    assert done.stdout == ""


def test_a_run_that_never_began_keeps_the_promise_of_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.submit", "--local", "--json", "-p", "horizon-days=0", "-p", "run-id=mine"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert (outcome["run_id"], outcome["status"]) == ("mine", "Error")
    assert "horizon-days" in outcome["error"]
    assert outcome["error"] in done.stderr
