"""Argo's own rules, most of which its controller only tells once a run fails: entrypoints, inputs, retries, cron."""

import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import yaml

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.cron import check_cron
from pipelines.gitops.tree import Document, Rendered, Tree, kind_of, label, name_of, walk
from pipelines.gitops.workloads import WORKFLOW_KINDS, workflow_spec

REMOVED = {"schedule": "schedules: [...]", "mutex": "mutexes: [...]", "semaphore": "semaphores: [...]"}
LEAVES = ("container", "script", "containerSet", "resource", "suspend", "http", "plugin", "data")
EXPRESSION = re.compile(r"\{\{-?\s*(=?)\s*(.*?)\s*\}\}", re.DOTALL)

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
        yield from _executor(file, path, rendered, known)
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
    yield from _patch(file, f"{path}.podSpecPatch", spec)
    for name, template in templates.items():
        where = f"{path}.templates[{name}]"
        yield from _patch(file, f"{where}.podSpecPatch", template)
        yield from _leaf(file, where, template)
        yield from _retry(file, where, template)
        yield from _tasks(file, where, template, templates)
        yield from _expressions(file, where, template, spec)
    for field, value in walk(spec, path):
        if field.endswith("artifactGC.strategy") and value != "Never":
            yield Finding(file, field, f"{value} deletes what a run has made, models too", "set it to Never")


def _patch(file: str, where: str, spec: Spec) -> Iterator[Finding]:
    """Check that a podSpecPatch can be read once the run's values are in it; the controller tells only then."""
    text = str(spec.get("podSpecPatch", "{}"))
    try:
        is_mapping = isinstance(yaml.safe_load(EXPRESSION.sub("0", text)), dict)
    except yaml.YAMLError:
        is_mapping = False
    if not is_mapping:
        yield Finding(file, where, "is neither JSON nor YAML of a pod: every run fails", "correct the text")


def _leaf(file: str, where: str, template: Spec) -> Iterator[Finding]:
    is_leaf = any(key in template for key in LEAVES)
    for key in ("container", "script"):
        container = template.get(key)
        if container is not None and not container.get("command"):
            yield Finding(
                file,
                f"{where}.{key}.command",
                "is missing: the controller would ask the registry for it",
                "write the command that the pod runs",
            )
        if key == "container" and container is not None and "args" not in container:
            yield Finding(file, f"{where}.container.args", "is missing", "write args, or args: [] when there are none")
    if template.get("activeDeadlineSeconds") and not is_leaf:
        yield Finding(file, f"{where}.activeDeadlineSeconds", "works on leaf templates only", "move it to the leaves")
    if is_leaf and "container" in template and not template.get("activeDeadlineSeconds"):
        yield Finding(
            file,
            f"{where}.activeDeadlineSeconds",
            "is missing: a step that hangs would hold its node for ever",
            "set the longest time that one attempt may take",
        )


def _retry(file: str, where: str, template: Spec) -> Iterator[Finding]:
    strategy = template.get("retryStrategy")
    if not strategy:
        return
    if not any(key in template for key in LEAVES):
        yield Finding(file, f"{where}.retryStrategy", "repeats a whole DAG", "put it on the leaf templates")
    expression = str(strategy.get("expression", ""))
    if expression and "retryPolicy" not in strategy:
        yield Finding(
            file,
            f"{where}.retryStrategy.retryPolicy",
            "is missing, and an expression without it means Always",
            "write the policy that is meant",
        )
    if re.search(r"(?<!asInt\()lastRetry\.exitCode\s*(?:[<>]|[!=]=\s*\d|in\s*\[\s*\d)", expression):
        yield Finding(
            file,
            f"{where}.retryStrategy.expression",
            "compares exitCode, which is text, with a number",
            "write asInt(lastRetry.exitCode)",
        )


def _tasks(file: str, where: str, template: Spec, templates: Mapping[str, Spec]) -> Iterator[Finding]:
    tasks = [*template.get("dag", {}).get("tasks", []), *(s for group in template.get("steps", []) for s in group)]
    names = {task["name"] for task in tasks}
    kind = "dag.tasks" if "dag" in template else "steps"
    if any("depends" in task for task in tasks) and any({"dependencies", "continueOn"} & set(task) for task in tasks):
        yield Finding(
            file, f"{where}.{kind}", "mixes depends with dependencies or continueOn", "use depends everywhere"
        )
    if cycle := _cycle({str(task["name"]): _awaited(task) for task in tasks}):
        what = f"wait for each other: {' -> '.join(cycle)}"
        yield Finding(file, f"{where}.{kind}", what, "take one of these out of depends")
    for task in tasks:
        field = f"{where}.{kind}[{task['name']}]"
        if "template" in task and task["template"] not in templates:
            yield _no_template(file, f"{field}.template", task["template"], templates)
            continue
        for other in sorted(_awaited(task) - names):
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


def _awaited(task: Spec) -> set[str]:
    mentioned = set(re.findall(r"(?<![.\w-])[A-Za-z][\w-]*", re.sub(r"\.\w+", "", task.get("depends", ""))))
    return mentioned | set(task.get("dependencies", []))


def _cycle(awaited: Mapping[str, set[str]]) -> list[str]:
    """Give tasks of which each waits for the next; empty when there are none."""
    try:
        tuple(TopologicalSorter(awaited).static_order())
    except CycleError as error:
        return [str(name) for name in reversed(error.args[1])]
    return []


def _expressions(file: str, where: str, template: Spec, spec: Spec) -> Iterator[Finding]:
    """Check `{{…}}` for parameters that nobody declares."""
    inputs = {parameter["name"] for parameter in template.get("inputs", {}).get("parameters", [])}
    arguments = {parameter["name"] for parameter in spec.get("arguments", {}).get("parameters", [])}
    for field, value in walk(template, where):
        if not isinstance(value, str):
            continue
        for expression, text in EXPRESSION.findall(value):
            for scope, declared in (("workflow.parameters", arguments), ("inputs.parameters", inputs)):
                for name in _names(text, scope):
                    if name not in declared:
                        yield Finding(
                            file, field, f"uses {{{{{scope}.{name}}}}}, which is not declared", _there(declared)
                        )
                if expression and (match := re.search(rf"{re.escape(scope)}\.(\w+-[\w-]+)", text)):
                    yield Finding(
                        file,
                        field,
                        f"{match[1]} has hyphens, which an expression reads as minus",
                        f"write {scope}['{match[1]}']",
                    )
            if text == "workflow.scheduledTime":
                what = "exists in cron runs only: a run by hand fails"
                yield Finding(file, field, what, "pass it from the CronWorkflow as a parameter")


def _names(text: str, scope: str) -> list[str]:
    plain = re.findall(rf"(?<![\w.]){re.escape(scope)}\.([\w-]+)", text)
    return plain + re.findall(rf"(?<![\w.]){re.escape(scope)}\[['\"]([^'\"]+)['\"]\]", text)


def _arguments(file: str, path: str, spec: Spec, known: Spec) -> Iterator[Finding]:
    """Check that what a CronWorkflow passes is declared by the template that it runs."""
    if not spec.get("workflowTemplateRef"):
        return
    declared = {parameter["name"] for parameter in known.get("arguments", {}).get("parameters", [])}
    for parameter in spec.get("arguments", {}).get("parameters", []):
        if parameter["name"] not in declared:
            what = "is no parameter of the template, and Argo accepts it silently"
            yield Finding(file, f"{path}.arguments.parameters[{parameter['name']}]", what, _there(declared))


def _removed_forms(file: str, document: Document) -> Iterator[Finding]:
    for field, value in walk(document, label(document)):
        key = field.rpartition(".")[2]
        if (key in ("mutex", "semaphore") and ".synchronization." in field) or (
            key == "schedule" and kind_of(document) == "CronWorkflow" and field.count(".") == 2
        ):
            yield Finding(file, field, f"{key} ({value}) was removed in Argo Workflows 4", f"write {REMOVED[key]}")


def _executor(file: str, path: str, rendered: Rendered, spec: Spec) -> Iterator[Finding]:
    """Check that the pods' account may report results: create and patch on workflowtaskresults."""
    account = spec.get("serviceAccountName")
    if not account:
        what = "is missing: pods would run as the namespace's default account, which may not report results"
        yield Finding(file, f"{path}.serviceAccountName", what, "name the ServiceAccount of the steps")
        return
    verbs: set[str] = set()
    for binding in rendered.of_kind("RoleBinding"):
        if any(s["kind"] == "ServiceAccount" and s["name"] == account for s in binding.get("subjects", [])):
            role = rendered.find(binding["roleRef"]["kind"], binding["roleRef"]["name"]) or {}
            for rule in role.get("rules", []):
                if "workflowtaskresults" in rule.get("resources", []) and "argoproj.io" in rule.get("apiGroups", []):
                    verbs |= set(rule["verbs"])
    if lacking := {"create", "patch"} - verbs - ({"create", "patch"} if "*" in verbs else set()):
        yield Finding(
            file,
            f"{path}.serviceAccountName",
            f"{account} may not {' or '.join(sorted(lacking))} workflowtaskresults.argoproj.io",
            "bind it to a Role that may: Argo's executor reports by them",
        )


def _no_template(file: str, field: str, name: str, templates: Mapping[str, Spec]) -> Finding:
    return Finding(file, field, f"names template {name!r}, which is not there", _there(templates))


def _there(names: Any) -> str:
    return f"there are: {', '.join(sorted(names)) or 'none'}"
