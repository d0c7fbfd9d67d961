"""Faults of a workflow's steps, each seeded into a copy of the tree: what a schema takes and only a run would tell."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.gitops.trees import (
    CRON,
    PIPELINE,
    TEMPLATE,
    WORKFLOW,
    Fault,
    Seed,
    assert_found,
    edit,
    edited,
    template_of,
)


def template(name: str, work: Callable[[dict[str, Any]], Any]) -> Seed:
    return edited(WORKFLOW, lambda d: work(template_of(d, name)))


def fault(seed: Seed, field: str, what: str, mend: str, file: str = WORKFLOW) -> Fault:
    return Fault(seed, PIPELINE, file, field, what, mend)


def without_value(documents: list[dict[str, Any]]) -> None:
    for parameter in documents[0]["spec"]["arguments"]["parameters"]:
        if parameter["name"] == "lake":
            del parameter["value"]


FAULTS = {
    "template of nothing": fault(
        template("main", lambda t: t.pop("dag")), f"{TEMPLATE}[main]", "is a template of nothing", "one of: dag, steps"
    ),
    "task of nothing": fault(
        template("main", lambda t: t["dag"]["tasks"].append({"name": "more"})),
        f"{TEMPLATE}[main].dag.tasks[more]",
        "runs nothing",
        "name a template",
    ),
    "step that is tried for ever": fault(
        template("eda", lambda t: t["retryStrategy"].pop("limit")),
        f"{TEMPLATE}[eda].retryStrategy.limit",
        "is tried for ever",
        "how often",
    ),
    "retry by what is not there": fault(
        template("eda", lambda t: t["retryStrategy"].update(expression='lastRetry.statuss == "Error"')),
        f"{TEMPLATE}[eda].retryStrategy.expression",
        "reads lastRetry.statuss",
        "one of: exitCode",
    ),
    "retry by what cannot be read": fault(
        template("eda", lambda t: t["retryStrategy"].update(expression="asInt(lastRetry.exitCode) in [75")),
        f"{TEMPLATE}[eda].retryStrategy.expression",
        "without its pair",
        "close it",
    ),
    "pause that is no duration": fault(
        edit(WORKFLOW, "duration: 30s", "duration: 30 seconds"),
        f"{TEMPLATE}[eda].retryStrategy.backoff.duration",
        "'30 seconds' is no duration",
        "write 30s",
    ),
    "status that no task has": fault(
        template("main", lambda t: t["dag"]["tasks"][1].update(depends="ingest.Succeded")),
        f"{TEMPLATE}[main].dag.tasks[process].depends",
        "asks for status 'Succeded'",
        "one of: Succeeded",
    ),
    "run that ends before its step may": fault(
        edit(WORKFLOW, "activeDeadlineSeconds: 72000", "activeDeadlineSeconds: 3600"),
        f"{TEMPLATE}[train].activeDeadlineSeconds",
        "gives one attempt 21600 s, and the whole run has 3600 s",
        "raise the run's",
    ),
    "output that may be missing": fault(
        template("finish", lambda t: t["outputs"]["parameters"][0]["valueFrom"].pop("default")),
        f"{TEMPLATE}[finish].outputs.parameters[map_at_12].valueFrom.default",
        "fails the node instead",
        "say what it is",
    ),
    "output that cannot be written": fault(
        template("finish", lambda t: t["outputs"]["parameters"][0]["valueFrom"].update(path="/outputs/map_at_12")),
        f"{TEMPLATE}[finish].outputs.parameters[map_at_12].valueFrom.path",
        "its root is read-only",
        "use a mounted folder: /tmp",
    ),
    "template twice": fault(
        edited(WORKFLOW, lambda d: d[0]["spec"]["templates"].append(d[0]["spec"]["templates"][0])),
        f"{TEMPLATE}[ingest]",
        "is there 2 times",
        "its own name",
    ),
    "parameter that nobody gives": fault(
        edited(WORKFLOW, without_value),
        "arguments.parameters[lake]",
        "has no value in the template, and none is passed",
        "give it a default",
        CRON,
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)
