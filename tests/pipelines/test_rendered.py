import sys
from dataclasses import replace
from typing import Any

import pytest

from pipelines.errors import UsageError
from pipelines.rendered import PlannedStep, plan_steps
from pipelines.workflow import CONFIG, RETRY, STEPS, RetryRule, workflow_template


def plan(
    template: dict[str, Any], environ: dict[str, str] | None = None, parameters: dict[str, str] | None = None
) -> dict[str, PlannedStep]:
    steps = plan_steps(template, run_id="run-1", parameters=parameters or {}, config=CONFIG, environ=environ or {})
    return {step.name: step for step in steps}


def leaf(template: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(t for t in template["spec"]["templates"] if t["name"] == name)
    return found


def test_commands_are_the_rendered_ones_with_values_put_in() -> None:
    process = plan(workflow_template(), parameters={"lake": "./lake", "cutoff-date": "2020-09-16"})["process"]
    assert process.argv == (
        *(sys.executable, "-m", "pipelines.steps.process"),
        *("--lake", "./lake", "--run-id", "run-1"),
        *("--cutoff-date", "2020-09-16", "--horizon-days", "7", "--accept-gates", ""),
    )
    assert process.after == ("ingest",)


def test_value_that_looks_like_a_placeholder_stays_as_it_is() -> None:
    ingest = plan(workflow_template(), parameters={"source": "s3://{{workflow.name}}/x"})["ingest"]
    assert "s3://{{workflow.name}}/x" in ingest.argv


def test_environment_is_the_config_map_s_under_the_caller_s() -> None:
    train = plan(workflow_template(), {"METRIC_THRESHOLD": "0.01", "HOME": "/home/me"})["train"]
    assert train.env["METRIC_THRESHOLD"] == "0.01"
    assert train.env["LOG_LEVEL"] == CONFIG["LOG_LEVEL"]
    assert train.env["HOME"] == "/home/me"
    assert "AWS_ENDPOINT_URL" not in train.env


def test_retries_and_deadlines_are_the_declared_ones() -> None:
    planned = plan(workflow_template())
    for step in STEPS:
        assert planned[step.name].deadline_seconds == step.deadline_seconds
        assert planned[step.name].retry_limit == RETRY.limit
    assert [planned["train"].wait_seconds(n) for n in range(3)] == [30, 60, 120]


def test_steps_come_in_dag_order_whatever_their_order_in_the_table() -> None:
    assert list(plan(workflow_template(STEPS[::-1]))) == ["ingest", "process", "train", "eda"]


def test_steps_that_wait_for_each_other_are_refused() -> None:
    circle = [replace(STEPS[0], after=("process",)), STEPS[1]]
    with pytest.raises(UsageError, match="ingest, process wait for each other"):
        plan(workflow_template(circle))


def test_retry_expression_that_is_not_the_table_s_is_refused() -> None:
    other = RetryRule(exit_codes=(1,))
    with pytest.raises(UsageError, match="cannot evaluate"):
        plan(workflow_template(STEPS, other))


def test_unknown_placeholder_is_refused() -> None:
    template = workflow_template()
    leaf(template, "ingest")["container"]["args"].append("{{workflow.uid}}")
    with pytest.raises(UsageError, match=r"\{\{workflow.uid\}\}"):
        plan(template)


def test_missing_config_map_key_is_refused_unless_the_environment_has_it() -> None:
    template = workflow_template()
    reference = {"configMapKeyRef": {"name": "ml-training-config", "key": "TOKEN"}}
    leaf(template, "ingest")["container"]["env"].append({"name": "TOKEN", "valueFrom": reference})
    with pytest.raises(UsageError, match="TOKEN is neither"):
        plan(template)
    assert plan(template, {"TOKEN": "x"})["ingest"].env["TOKEN"] == "x"


def test_dependency_beyond_names_is_refused() -> None:
    template = workflow_template()
    leaf(template, "main")["dag"]["tasks"][1]["depends"] = "ingest.Failed || ingest"
    with pytest.raises(UsageError, match="joined by &&"):
        plan(template)
