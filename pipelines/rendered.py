"""Read a rendered WorkflowTemplate back as what a local run executes: commands, environment, order, retries."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UsageError
from pipelines.workflow import RETRY, RetryRule

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
_DURATION = re.compile(r"(\d+)([smh]?)")
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One leaf template with everything filled in; `after` names the steps that must have succeeded."""

    name: str
    after: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    deadline_seconds: float | None
    retry_limit: int
    backoff_seconds: float
    backoff_factor: float

    def wait_seconds(self, n_retries: int) -> float:
        """Give the pause before retry number n_retries (from 0), as Argo's exponential backoff does."""
        return self.backoff_seconds * self.backoff_factor**n_retries


def plan_steps(
    template: Mapping[str, Any],
    *,
    run_id: str,
    parameters: Mapping[str, str],
    config: Mapping[str, str],
    environ: Mapping[str, str],
    retry: RetryRule = RETRY,
) -> tuple[PlannedStep, ...]:
    """Fill in a template for one run, in DAG order.

    `environ` is what the processes inherit; it wins over the ConfigMap, so that people can set METRIC_THRESHOLD for
    one local run. Whatever the template says that a local run cannot honour raises UsageError instead of being skipped.
    """
    spec = template["spec"]
    declared = {parameter["name"]: parameter["value"] for parameter in spec["arguments"]["parameters"]}
    values = {f"workflow.parameters.{name}": value for name, value in (declared | dict(parameters)).items()}
    values["workflow.name"] = run_id
    leaves = {leaf["name"]: leaf for leaf in spec["templates"]}
    planned: list[PlannedStep] = []
    for task in leaves[spec["entrypoint"]]["dag"]["tasks"]:
        leaf = leaves[task["template"]]
        container = leaf["container"]
        argv = [_filled(text, values) for text in [*container["command"], *container.get("args", [])]]
        limit, backoff_seconds, factor = _retries(leaf, retry)
        planned.append(
            PlannedStep(
                name=task["name"],
                after=_dependencies(task),
                # The pod's python is this one: the same interpreter that runs the runner, with its packages.
                argv=(sys.executable if argv[0] == "python" else argv[0], *argv[1:]),
                env=_environment(container.get("env", []), config, environ),
                deadline_seconds=leaf.get("activeDeadlineSeconds"),
                retry_limit=limit,
                backoff_seconds=backoff_seconds,
                backoff_factor=factor,
            )
        )
    return _in_order(planned)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Put values in; a value that itself looks like a placeholder stays as it is."""

    def value_of(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise UsageError(f"the template uses {match[0]}, which a local run has no value for")
        return values[match[1]]

    return _PLACEHOLDER.sub(value_of, text)


def _environment(
    declared: list[dict[str, Any]], config: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    env: dict[str, str] = {}
    for variable in declared:
        name = variable["name"]
        if "value" in variable:
            env[name] = variable["value"]
        else:
            reference = variable["valueFrom"]["configMapKeyRef"]
            if reference["key"] in config:
                env[name] = config[reference["key"]]
            elif not reference.get("optional") and name not in environ:
                raise UsageError(f"{name} is neither in the environment nor in the ConfigMap {reference['name']!r}")
    return env | dict(environ)


def _dependencies(task: Mapping[str, Any]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in task.get("depends", "").split("&&") if name.strip())
    if unclear := [name for name in names if not re.fullmatch(r"[\w-]+", name)]:
        raise UsageError(f"task {task['name']!r} depends on {unclear[0]!r}; a local run understands names joined by &&")
    return names


def _retries(leaf: Mapping[str, Any], retry: RetryRule) -> tuple[int, float, float]:
    strategy = leaf.get("retryStrategy")
    if strategy is None:
        return 0, 0.0, 1.0
    if strategy.get("expression") != retry.expression or strategy.get("retryPolicy") != "Always":
        raise UsageError(
            f"template {leaf['name']!r} retries by {strategy.get('expression')!r}, which a local run cannot evaluate;"
            f" the step table's rule is {retry.expression!r}"
        )
    backoff = strategy.get("backoff", {})
    return int(strategy["limit"]), _seconds(backoff.get("duration", "0")), float(backoff.get("factor", 1))


def _seconds(duration: str) -> float:
    match = _DURATION.fullmatch(str(duration))
    if match is None:
        raise UsageError(f"backoff duration {duration!r} is not a number of s, m or h, such as '30s'")
    return float(int(match[1]) * _UNIT_SECONDS[match[2]])


def _in_order(planned: list[PlannedStep]) -> tuple[PlannedStep, ...]:
    ordered: dict[str, PlannedStep] = {}
    while len(ordered) < len(planned):
        ready = [s for s in planned if s.name not in ordered and all(name in ordered for name in s.after)]
        if not ready:
            stuck = ", ".join(step.name for step in planned if step.name not in ordered)
            raise UsageError(f"the steps {stuck} wait for each other, or for a step that does not exist")
        ordered |= {step.name: step for step in ready}
    return tuple(ordered.values())
