"""The steps' code against the workflow that runs them: commands, parameters, settings, schedule."""

import importlib
import re

import pytest
import typer

from pipelines.gitops.tree import Document
from pipelines.parameters import PARAMETERS, check_parameters
from pipelines.settings import Settings, load_settings
from pipelines.workflow import OPTIONAL_CONFIG, STEPS, TEMPLATE_NAME
from tests.contracts.overlays import ENVIRONMENTS, GITOPS, configuration, only, overlay

APPLICATION = "ml-training-workflow-circle"
# What Argo fills in; a value of the right kind stands for each.
FILLED_IN = {
    "workflow.name": "ml-training-daily-1",
    "workflow.status": "Succeeded",
    "workflow.duration": "12.3",
    "workflow.failures": "[]",
}


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def template(environment: str) -> Document:
    return only(overlay(APPLICATION, environment), "WorkflowTemplate")


def containers(template: Document) -> dict[str, Document]:
    return {t["name"]: t["container"] for t in template["spec"]["templates"] if "container" in t}


def config_of(environment: str, template: Document) -> dict[str, str]:
    """Give the environment of the first step, as its ConfigMap has it."""
    rendered = overlay(APPLICATION, environment)
    found = {}
    for variable in next(iter(containers(template).values()))["env"]:
        reference = variable["valueFrom"]["configMapKeyRef"]
        data = (rendered.find("ConfigMap", reference["name"]) or {})["data"]
        if reference["key"] in data:
            found[variable["name"]] = data[reference["key"]]
    return found


def filled(text: str, template: Document) -> str:
    values = FILLED_IN | {
        f"workflow.parameters.{parameter['name']}": parameter["value"]
        for parameter in template["spec"]["arguments"]["parameters"]
    }

    def value_of(match: re.Match[str]) -> str:
        return values[match[1].strip()]

    return re.sub(r"\{\{(.*?)\}\}", value_of, text)


def test_every_command_line_is_one_that_its_step_takes(template: Document) -> None:
    for container in containers(template).values():
        python, minus_m, module = container["command"]
        assert (python, minus_m) == ("python", "-m")
        command = typer.main.get_command(importlib.import_module(module).app)
        arguments = [filled(argument, template) for argument in container["args"]]
        command.make_context(module, arguments)  # raises click's UsageError for what the step does not know


def test_a_misspelled_argument_would_be_refused(template: Document) -> None:
    module = containers(template)["train"]["command"][2]
    command = typer.main.get_command(importlib.import_module(module).app)
    with pytest.raises(Exception, match="--run_id"):
        command.make_context(module, ["--run_id", "x"])


def test_every_step_of_the_table_runs_in_the_overlay(template: Document) -> None:
    assert {step.name for step in STEPS} <= set(containers(template))
    assert template["metadata"]["name"] == TEMPLATE_NAME


def test_parameters_are_those_of_the_code_with_values_that_it_accepts(template: Document) -> None:
    declared = {p["name"]: p["value"] for p in template["spec"]["arguments"]["parameters"]}
    assert list(declared) == [parameter.name for parameter in PARAMETERS]
    assert check_parameters(declared) == []


def test_the_scheduled_run_passes_parameters_that_the_code_accepts(environment: str) -> None:
    cron = only(overlay(APPLICATION, environment), "CronWorkflow")
    given = {p["name"]: p["value"] for p in cron["spec"]["workflowSpec"]["arguments"]["parameters"]}
    assert check_parameters(given) == []
    configured = configuration(environment)
    assert given["source"] == f"s3://{configured['lake']['bucket']}/{configured['training']['sourceFolder']}"


def test_production_trains_every_night_at_two_in_utc(environment: str) -> None:
    spec = only(overlay(APPLICATION, environment), "CronWorkflow")["spec"]
    configured = configuration(environment)["training"]
    assert spec["schedules"] == [configured["schedule"]]
    assert spec.get("suspend", False) == configured["suspend"]
    assert spec["timezone"] == "UTC"
    assert spec["concurrencyPolicy"] == "Forbid"
    if environment == "production":
        assert (spec["schedules"], spec.get("suspend", False)) == (["0 2 * * *"], False)


def test_every_variable_is_a_setting_and_each_needed_one_is_set(
    environment: str, template: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = config_of(environment, template)
    known = {str(field.alias) for field in Settings.model_fields.values()} | set(OPTIONAL_CONFIG)
    for container in containers(template).values():
        assert {variable["name"] for variable in container["env"]} <= known
    for name in known:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    configured = configuration(environment)
    assert settings.lake == f"s3://{configured['lake']['bucket']}"
    assert settings.metric_threshold == float(configured["training"]["metricThreshold"])


def test_resources_of_each_step_are_those_of_the_configuration(environment: str, template: Document) -> None:
    found = containers(template)
    for name, resources in configuration(environment)["training"]["resources"].items():
        assert found[name]["resources"] == resources


def test_image_runs_as_the_user_of_the_manifest(template: Document) -> None:
    dockerfile = (GITOPS.parent / "Dockerfile.training").read_text()
    user, group = re.findall(r"(?m)^USER (\d+):(\d+)$", dockerfile)[-1]
    context = template["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
