import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hera.workflows import models as argo
from pydantic import ValidationError

from pipelines.argo_models import exact
from pipelines.finish import FIGURES
from pipelines.parameters import PARAMETERS
from pipelines.workflow import CONFIG, RETRY, STEPS, cron_workflow, workflow_template

CRDS = Path(__file__).parents[2].parent / "shared/crds"
TEMPLATES = {template["name"]: template for template in workflow_template()["spec"]["templates"]}
LEAVES = [TEMPLATES[step.name] for step in STEPS]


def test_dag_is_ingest_then_process_then_eda_beside_train() -> None:
    tasks = {task["name"]: task.get("depends") for task in TEMPLATES["main"]["dag"]["tasks"]}
    assert tasks == {"ingest": None, "process": "ingest", "eda": "process", "train": "process"}


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf["name"])
def test_every_placeholder_is_a_declared_parameter_or_the_name(leaf: dict[str, Any]) -> None:
    known = {f"{{{{workflow.parameters.{parameter.name}}}}}" for parameter in PARAMETERS} | {"{{workflow.name}}"}
    values = leaf["container"]["args"][1::2]
    assert set(values) <= known
    assert all(name.startswith("--") for name in leaf["container"]["args"][::2])


def test_a_run_ends_before_the_next_night_and_has_time_for_its_steps() -> None:
    deadline = workflow_template()["spec"]["activeDeadlineSeconds"]
    longest = {step.name: step.deadline_seconds for step in STEPS}
    assert sum(longest.values()) < deadline < 24 * 3600


def test_every_parameter_reaches_a_step() -> None:
    used = {name for step in STEPS for name in step.parameters} | {"lake"}
    assert used == {parameter.name for parameter in PARAMETERS}


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf["name"])
def test_pods_run_unprivileged_with_limits_and_a_deadline(leaf: dict[str, Any]) -> None:
    container = leaf["container"]
    assert container["command"][:2] == ["python", "-m"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["volumeMounts"] == [{"name": "scratch", "mountPath": "/tmp"}]
    assert container["resources"]["limits"]["memory"]
    assert leaf["activeDeadlineSeconds"] > 0
    assert workflow_template()["spec"]["securityContext"]["runAsUser"] == 10001


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf["name"])
def test_environment_comes_from_keys_that_the_config_map_has(leaf: dict[str, Any]) -> None:
    references = [variable["valueFrom"]["configMapKeyRef"] for variable in leaf["container"]["env"]]
    assert {reference["key"] for reference in references if not reference.get("optional")} == set(CONFIG)


@pytest.mark.parametrize(
    ("status", "exit_code", "message", "expected"),
    [
        ("Failed", 75, "main: Error (exit code 75)", True),
        ("Failed", 143, "main: Error (exit code 143)", True),
        ("Failed", 143, "Pod was active on the node longer than the specified deadline", False),
        ("Error", -1, "pod deleted", True),
        ("Failed", 3, "main: Error (exit code 3)", False),
        ("Failed", 2, "main: Error (exit code 2)", False),
        ("Failed", 4, "main: Error (exit code 4)", False),
        ("Failed", 137, "main: OOMKilled (exit code 137)", False),
        ("Failed", 1, "main: Error (exit code 1)", False),
    ],
)
def test_retry_rule_and_its_expression_agree(status: str, exit_code: int, message: str, expected: bool) -> None:
    assert RETRY.allows(status=status, exit_code=exit_code, message=message) is expected
    # expr-lang and Python differ here only in these spellings
    python = (
        RETRY.expression.replace("||", "or")
        .replace("&&", "and")
        .replace('!(lastRetry.message contains "deadline")', 'not "deadline" in message')
        .replace("asInt(lastRetry.exitCode)", "int(exit_code)")
        .replace("lastRetry.status", "status")
    )
    names = {"__builtins__": {}, "int": int, "status": status, "exit_code": str(exit_code), "message": message}
    assert eval(python, names) is expected


def test_exit_handler_is_a_template_with_the_rights_of_a_step() -> None:
    finish = TEMPLATES[workflow_template()["spec"]["onExit"]]
    for field in ("env", "image", "securityContext"):
        assert finish["container"][field] == LEAVES[0]["container"][field]
    assert finish["activeDeadlineSeconds"] == 600
    assert finish["retryStrategy"] == LEAVES[0]["retryStrategy"]
    # a figure that the run did not get to has no file, and an output without file and default fails the node
    assert {p["name"]: p["valueFrom"]["default"] for p in finish["outputs"]["parameters"]} == dict.fromkeys(
        FIGURES, "NaN"
    )


def test_argo_s_own_containers_are_as_unprivileged_as_pod_security_asks() -> None:
    patch = json.loads(workflow_template()["spec"]["podSpecPatch"])
    own = {container["name"]: container for containers in patch.values() for container in containers}
    assert set(own) == {"init", "wait"}
    for container in own.values():
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_retries_are_on_leaves_only() -> None:
    assert "retryStrategy" not in workflow_template()["spec"]
    assert "retryStrategy" not in TEMPLATES["main"]
    assert {leaf["retryStrategy"]["retryPolicy"] for leaf in LEAVES} == {"Always"}


def test_argo_4_spelling_is_used() -> None:
    spec = cron_workflow()["spec"]
    assert spec["schedules"] == ["0 2 * * *"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["timezone"] == "UTC"
    assert spec["startingDeadlineSeconds"] == 3600
    assert "schedule" not in spec
    assert list(workflow_template()["spec"]["synchronization"]) == ["mutexes"]


def test_misspelled_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="stratgy"):
        exact(argo.PodGC, stratgy="OnPodSuccess")
    with pytest.raises(ValidationError, match="x"):
        exact(argo.PodSecurityContext, seccompProfile={"type": "RuntimeDefault", "x": 1})


@pytest.mark.parametrize(
    ("kind", "document"),
    [("WorkflowTemplate", workflow_template()), ("CronWorkflow", cron_workflow())],
    ids=["WorkflowTemplate", "CronWorkflow"],
)
def test_document_is_valid_under_the_cluster_s_schema(kind: str, document: dict[str, Any]) -> None:
    if not CRDS.is_dir():
        pytest.skip(f"{CRDS} with the custom resources' schemas is not here")
    jsonschema.validate(document, _closed(json.loads((CRDS / f"{kind}.json").read_text())))


def _closed(schema: Any) -> Any:
    """Refuse unknown fields everywhere, which Kubernetes' schemas leave open."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if "properties" in closed and closed.get("type") == "object" and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed
