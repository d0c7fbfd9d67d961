"""Argo's own rules, most of which its controller only tells once a run fails: entrypoints, inputs, retries, cron."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.cron import check_cron
from pipelines.gitops.rules.leaves import check_leaf
from pipelines.gitops.rules.variables import check_variables
from pipelines.gitops.tree import Document, Rendered, Tree, kind_of, label, name_of, walk
from pipelines.gitops.workloads import WORKFLOW_KINDS, awaited, workflow_spec

REMOVED = {"schedule": "schedules: [...]", "mutex": "mutexes: [...]", "semaphore": "semaphores: [...]"}
# https://argo-workflows.readthedocs.io/en/latest/enhanced-depends-logic/
STATUSES = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed")

Spec = Mapping[str, Any]


def check_workflows(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check every workflow kind of one rendered overlay."""
    for document in rendered.of_kind(*WORKFLOW_KINDS):
        file = tree.shown(rendered.file_of(document))
        path, spec = workflow_spec(document)
        known = _referenced(rendered, spec) if spec.get("workflowTemplateRef") else spec
        if known is None:
            name = spec["workflowTemplateRef"].get("name")
            there = ", ".join(name_of(d) for d in rendered.of_kind("WorkflowTemplate")) or "none"
            yield Finding(
                file,
                f"{path}.workflowTemplateRef.name",
                f"names WorkflowTemplate {name}, which is not there",
                f"there are: {there}",
            )
            continue
        yield from _arguments(file, path, spec, known)
        yield from _removed_forms(file, document)
        if spec.get("templates"):
            yield from _templates(file, path, spec)
        if kind_of(document) == "CronWorkflow":
            yield from check_cron(file, rendered, document)


def _referenced(rendered: Rendered, spec: Spec) -> Spec | None:
    found = rendered.find("WorkflowTemplate", spec["workflowTemplateRef"].get("name", ""))
    return found["spec"] if found else None


def _templates(file: str, path: str, spec: Spec) -> Iterator[Finding]:
    templates = {str(template.get("name")): template for template in spec["templates"]}
    for field in ("entrypoint", "onExit"):
        if spec.get(field) and spec[field] not in templates:
            yield _no_template(file, f"{path}.{field}", spec[field], templates)
    if not spec.get("entrypoint"):
        yield Finding(
            file, f"{path}.entrypoint", "is missing, so a run has nowhere to begin", f"one of: {', '.join(templates)}"
        )
    if spec.get("retryStrategy"):
        yield Finding(
            file,
            f"{path}.retryStrategy",
            "multiplies with the retries of each template",
            "put retryStrategy on leaf templates only",
        )
    yield from check_variables(file, path, spec)
    for name, n in Counter(str(template.get("name")) for template in spec["templates"]).items():
        if n > 1:
            what = f"is there {n} times, and the controller refuses the template"
            yield Finding(file, f"{path}.templates[{name}]", what, "give each its own name")
    for name, template in templates.items():
        where = f"{path}.templates[{name}]"
        yield from check_leaf(file, where, template, spec)
        yield from _tasks(file, where, template, templates)
    for field, value in walk(spec, path):
        if field.endswith("artifactGC.strategy") and value != "Never":
            yield Finding(file, field, f"{value} deletes what a run has made, models too", "set it to Never")


def _tasks(file: str, where: str, template: Spec, templates: Mapping[str, Spec]) -> Iterator[Finding]:
    tasks = [*template.get("dag", {}).get("tasks", []), *(s for group in template.get("steps", []) for s in group)]
    names = {task["name"] for task in tasks}
    kind = "dag.tasks" if "dag" in template else "steps"
    if any("depends" in task for task in tasks) and any({"dependencies", "continueOn"} & set(task) for task in tasks):
        yield Finding(
            file, f"{where}.{kind}", "mixes depends with dependencies or continueOn", "use depends everywhere"
        )
    if cycle := _cycle({str(task["name"]): awaited(task) for task in tasks}):
        what = f"wait for each other: {' -> '.join(cycle)}"
        yield Finding(file, f"{where}.{kind}", what, "take one of these out of depends")
    for task in tasks:
        field = f"{where}.{kind}[{task['name']}]"
        if not {"template", "templateRef", "inline"} & set(task):
            yield Finding(file, field, "runs nothing", "name a template")
        if "template" in task and task["template"] not in templates:
            yield _no_template(file, f"{field}.template", task["template"], templates)
            continue
        for status in re.findall(r"\.(\w+)", task.get("depends", "")):
            if status not in STATUSES:
                what = f"asks for status {status!r}, which no task ever has"
                yield Finding(file, f"{field}.depends", what, f"one of: {', '.join(STATUSES)}")
        for other in sorted(awaited(task) - names):
            yield Finding(file, f"{field}.depends", f"waits for task {other!r}, which is not there", _there(names))
        declared = templates.get(task.get("template", ""), {}).get("inputs", {}).get("parameters", [])
        given = {argument["name"] for argument in task.get("arguments", {}).get("parameters", [])}
        for name in sorted(given - {parameter["name"] for parameter in declared}):
            what = f"passes parameter {name!r}, which template {task['template']!r} does not declare"
            yield Finding(
                file,
                f"{field}.arguments",
                what,
                f"declare it under inputs, or remove it; {_there(p['name'] for p in declared)}",
            )
        for parameter in declared:
            if parameter["name"] not in given and "value" not in parameter and "valueFrom" not in parameter:
                yield Finding(
                    file,
                    f"{field}.arguments",
                    f"lacks parameter {parameter['name']!r}",
                    "pass it, or give it a default",
                )


def _cycle(awaited: Mapping[str, set[str]]) -> list[str]:
    """Give tasks of which each waits for the next; empty when there are none."""
    try:
        tuple(TopologicalSorter(awaited).static_order())
    except CycleError as error:
        return [str(name) for name in reversed(error.args[1])]
    return []


def _arguments(file: str, path: str, spec: Spec, known: Spec) -> Iterator[Finding]:
    """Check that what a CronWorkflow passes is declared by the template that it runs."""
    if not spec.get("workflowTemplateRef"):
        return
    parameters = known.get("arguments", {}).get("parameters", [])
    declared = {parameter["name"] for parameter in parameters}
    given = {parameter["name"] for parameter in spec.get("arguments", {}).get("parameters", [])}
    for name in sorted(given - declared):
        what = "is no parameter of the template, and Argo accepts it silently"
        yield Finding(file, f"{path}.arguments.parameters[{name}]", what, _there(declared))
    for parameter in parameters:
        if not {"value", "valueFrom"} & set(parameter) and parameter["name"] not in given:
            what = "has no value in the template, and none is passed: no run is ever started"
            mend = "pass it, or give it a default in the template"
            yield Finding(file, f"{path}.arguments.parameters[{parameter['name']}]", what, mend)


def _removed_forms(file: str, document: Document) -> Iterator[Finding]:
    for field, value in walk(document, label(document)):
        key = field.rpartition(".")[2]
        if (key in ("mutex", "semaphore") and ".synchronization." in field) or (
            key == "schedule" and kind_of(document) == "CronWorkflow" and field.count(".") == 2
        ):
            yield Finding(file, field, f"{key} ({value}) was removed in Argo Workflows 4", f"write {REMOVED[key]}")


def _no_template(file: str, field: str, name: str, templates: Mapping[str, Spec]) -> Finding:
    return Finding(file, field, f"names template {name!r}, which is not there", _there(templates))


def _there(names: Any) -> str:
    return f"there are: {', '.join(sorted(names)) or 'none'}"
