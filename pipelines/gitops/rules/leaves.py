"""What a template that runs as a pod needs: a command, deadlines, retries that end, outputs that can be written."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import walk

LEAVES = ("container", "script", "containerSet", "resource", "suspend", "http", "plugin", "data")
# Argo reads Go's durations, and plain digits as seconds.
DURATION = re.compile(r"\d+|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+")
DURATIONS = ("retryStrategy.backoff.duration", "retryStrategy.backoff.maxDuration", "suspend.duration")
LAST_RETRY = ("exitCode", "status", "duration", "message")

Spec = Mapping[str, Any]


def check_leaf(file: str, where: str, template: Spec, spec: Spec) -> Iterator[Finding]:
    """Check one template; of one that calls others, only that it leaves to them what is theirs."""
    yield from _container(file, where, template)
    yield from _deadline(file, where, template, spec)
    yield from _retry(file, where, template)
    yield from _outputs(file, where, template)


def _container(file: str, where: str, template: Spec) -> Iterator[Finding]:
    is_leaf = any(key in template for key in LEAVES)
    if not is_leaf and not {"dag", "steps"} & set(template):
        what = "is a template of nothing: the controller refuses it"
        yield Finding(file, where, what, f"give it one of: dag, steps, {', '.join(LEAVES)}")
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
    if "limit" not in strategy:
        what = "is missing: a step that always fails is tried for ever"
        yield Finding(file, f"{where}.retryStrategy.limit", what, "write how often it is tried again")
    expression = str(strategy.get("expression", ""))
    for name in re.findall(r"lastRetry\.(\w+)", expression):
        if name not in LAST_RETRY:
            what = f"reads lastRetry.{name}, which is not there: the run fails at the first retry"
            yield Finding(file, f"{where}.retryStrategy.expression", what, f"one of: {', '.join(LAST_RETRY)}")
    bare = re.sub(r'"[^"]*"|\'[^\']*\'', "", expression)
    if any(bare.count(one) != bare.count(other) for one, other in ("()", "[]", "{}")) or "'" in bare or '"' in bare:
        what = "has a bracket or quote without its pair: the run fails at the first retry"
        yield Finding(file, f"{where}.retryStrategy.expression", what, "close it")
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
    for field, value in walk(template, where):
        if field.endswith(DURATIONS) and "{{" not in str(value) and not DURATION.fullmatch(str(value)):
            yield Finding(file, field, f"{value!r} is no duration: the first retry fails the run", "write 30s or 5m")


def _deadline(file: str, where: str, template: Spec, spec: Spec) -> Iterator[Finding]:
    own, run = str(template.get("activeDeadlineSeconds", "")), str(spec.get("activeDeadlineSeconds", ""))
    if own.isdecimal() and run.isdecimal() and int(own) > int(run):
        what = f"gives one attempt {own} s, and the whole run has {run} s: the run is stopped first"
        yield Finding(file, f"{where}.activeDeadlineSeconds", what, "raise the run's, or lower this one")


def _outputs(file: str, where: str, template: Spec) -> Iterator[Finding]:
    """Check outputs by path: writable under a read-only root, and with something to say when nothing was written."""
    container = template.get("container") or template.get("script") or {}
    mounts = [str(mount.get("mountPath")).rstrip("/") for mount in container.get("volumeMounts", [])]
    is_read_only = (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is True
    for parameter in (template.get("outputs") or {}).get("parameters", []):
        source, field = parameter.get("valueFrom") or {}, f"{where}.outputs.parameters[{parameter['name']}]"
        path = str(source.get("path", ""))
        if not path:
            continue
        if is_read_only and not any(path.startswith(f"{mount}/") for mount in mounts):
            what = f"is read from {path}, which the pod cannot write: its root is read-only"
            yield Finding(file, f"{field}.valueFrom.path", what, f"use a mounted folder: {', '.join(mounts) or 'none'}")
        if "default" not in source:
            what = "is missing: where the step is skipped or fails first, this output fails the node instead"
            yield Finding(file, f"{field}.valueFrom.default", what, "say what it is when nothing was written")
