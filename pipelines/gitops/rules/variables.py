"""Are the `{{…}}` of a workflow ones that Argo knows there? It leaves others as they are, or fails the run at its end.

The names are those of https://argo-workflows.readthedocs.io/en/latest/variables/.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import walk

EXPRESSION = re.compile(r"\{\{-?\s*(=?)\s*(.*?)\s*\}\}", re.DOTALL)
TAG = re.compile(r"[A-Za-z][\w.-]*(\[[^\]]*\][\w.-]*)*")
WORKFLOW = {
    *("workflow.name", "workflow.namespace", "workflow.mainEntrypoint", "workflow.serviceAccountName", "workflow.uid"),
    *("workflow.parameters", "workflow.parameters.json", "workflow.annotations.json", "workflow.labels.json"),
    *("workflow.creationTimestamp", "workflow.priority", "workflow.duration", "workflow.scheduledTime"),
}
AT_THE_END = {"workflow.status", "workflow.failures"}
ANY_TEMPLATE = {"inputs.parameters", "node.name", "steps.name", "tasks.name"}
POD = {"pod.name", "retries"}
METRIC = {"status", "duration", "exitCode", "outputs.result", "resourcesDuration.cpu", "resourcesDuration.memory"}
# Names that go on with one of the user's own, which other checks look up or which only a run can know.
OPEN = (
    *("workflow.parameters.", "workflow.outputs.", "workflow.annotations.", "workflow.labels."),
    *("workflow.creationTimestamp.", "inputs.parameters.", "inputs.artifacts.", "outputs.parameters."),
    *("outputs.artifacts.", "tasks.", "steps.", "lastRetry.", "request.", "response.", "cronworkflow."),
)

Spec = Mapping[str, Any]


def check_variables(file: str, path: str, spec: Spec) -> Iterator[Finding]:
    """Check every text of a workflow with templates."""
    at_the_end = _reached(str(spec.get("onExit", "")), spec)
    for name, template in ((str(t.get("name")), t) for t in spec["templates"]):
        where = f"{path}.templates[{name}]"
        known = WORKFLOW | ANY_TEMPLATE | POD | (AT_THE_END if name in at_the_end else set())
        yield from _template(file, where, template, spec, known)
    outside = {key: value for key, value in spec.items() if key not in ("templates", "arguments")}
    for field, value in walk(outside, path):
        known = WORKFLOW | POD | (AT_THE_END if ".metrics." in field else set())
        for is_expression, text in _tags(value):
            yield from _declared(file, field, text, {"workflow.parameters": _names_of(spec, "arguments")})
            yield from _known(file, field, is_expression, text, known)


def _template(file: str, where: str, template: Spec, spec: Spec, known: set[str]) -> Iterator[Finding]:
    scopes = {
        "workflow.parameters": _names_of(spec, "arguments") | {"json"},
        "inputs.parameters": _names_of(template, "inputs"),
        "outputs.parameters": _names_of(template, "outputs"),
    }
    loops = {str(t["name"]) for t in _tasks(template) if {"withItems", "withParam", "withSequence"} & set(t)}
    for field, value in walk(template, where):
        here = known | (METRIC if ".metrics." in field else set())
        if any(f"[{name}]" in field for name in loops):
            here = here | {"item"}
        for is_expression, text in _tags(value):
            yield from _declared(file, field, text, scopes)
            yield from _known(file, field, is_expression, text, here)
            for scope in scopes:
                if is_expression and (match := re.search(rf"{re.escape(scope)}\.(\w+-[\w-]+)", text)):
                    what = f"{match[1]} has hyphens, which an expression reads as minus"
                    yield Finding(file, field, what, f"write {scope}['{match[1]}']")
            if text == "workflow.scheduledTime":
                what = "exists in cron runs only: a run by hand fails"
                yield Finding(file, field, what, "pass it from the CronWorkflow as a parameter")


def _tags(value: Any) -> list[tuple[bool, str]]:
    return [(bool(mark), text) for mark, text in EXPRESSION.findall(value)] if isinstance(value, str) else []


def _names_of(holder: Spec, key: str) -> set[str]:
    return {str(parameter["name"]) for parameter in (holder.get(key) or {}).get("parameters", [])}


def _tasks(template: Spec) -> list[Spec]:
    steps = [step for group in template.get("steps", []) for step in group]
    return [*(template.get("dag") or {}).get("tasks", []), *steps]


def _reached(start: str, spec: Spec) -> set[str]:
    """Give the templates that run once a workflow has ended: the exit handler, and what it calls."""
    templates = {str(template.get("name")): template for template in spec["templates"]}
    seen, todo = set[str](), [start]
    while todo:
        if (name := todo.pop()) in templates and name not in seen:
            seen.add(name)
            todo += [str(task.get("template", "")) for task in _tasks(templates[name])]
    return seen


def _declared(file: str, field: str, text: str, scopes: Mapping[str, set[str]]) -> Iterator[Finding]:
    for scope, declared in scopes.items():
        for name in _names(text, scope):
            if name not in declared and name.removesuffix(".path") not in declared:
                there = f"there are: {', '.join(sorted(declared)) or 'none'}"
                yield Finding(file, field, f"uses {{{{{scope}.{name}}}}}, which is not declared", there)


def _names(text: str, scope: str) -> list[str]:
    plain = re.findall(rf"(?<![\w.]){re.escape(scope)}\.([\w-]+)", text)
    return plain + re.findall(rf"(?<![\w.]){re.escape(scope)}\[['\"]([^'\"]+)['\"]\]", text)


def _known(file: str, field: str, is_expression: bool, text: str, known: set[str]) -> Iterator[Finding]:
    """Check a simple tag whole; of an expression, which has functions too, what it reads of the workflow."""
    names = re.findall(r"(?<![\w.'\"])workflow\.[\w.]+", text) if is_expression else [text]
    for name in names:
        if name in known or name.startswith(OPEN) or ("item" in known and re.match(r"item\b", name)):
            continue
        if name in AT_THE_END:
            what = f"{{{{{name}}}}} is known only when a run has ended, in its exit handler"
            yield Finding(file, field, what, "move it to the template of onExit")
            continue
        if name == "item" or name.startswith("item."):
            what = "is a task's without withItems, withParam or withSequence"
            yield Finding(file, field, f"{{{{{name}}}}} {what}", "give the task a loop, and pass the item as an input")
            continue
        nearest = get_close_matches(name, [*known, *OPEN], n=1, cutoff=0.6)
        mend = f"did you mean {nearest[0]}?" if nearest else f"one of: {', '.join(sorted(known))}"
        yield Finding(file, field, f"{{{{{name}}}}} is no variable of Argo: it stays as it is, or fails the run", mend)
