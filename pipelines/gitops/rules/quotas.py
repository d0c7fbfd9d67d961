"""Does what runs at once fit the namespace's ResourceQuota, and is the LimitRange one that the API server takes?

The quota counts what pods ask for: a Deployment at its largest (the autoscaler's most, or its replicas, the surge of a
rollout, and the old pods that are still ending), and of a workflow the widest moment of its graph, Argo's own
containers with it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import ceil
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.quantities import amount, is_quantity, written
from pipelines.gitops.tree import Document, Rendered, Tree, kind_of, label, name_of
from pipelines.gitops.workloads import (
    WORKFLOW_KINDS,
    Workload,
    awaited,
    executor_containers,
    workflow_spec,
    workloads_in,
)

COUNTED = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
# https://kubernetes.io/docs/concepts/policy/resource-quotas/; names with a slash are counts of any kind.
KNOWN = {
    *COUNTED,
    *("cpu", "memory", "pods", "ephemeral-storage", "requests.ephemeral-storage", "limits.ephemeral-storage"),
    *("requests.storage", "persistentvolumeclaims", "configmaps", "secrets", "replicationcontrollers"),
    *("resourcequotas", "services", "services.loadbalancers", "services.nodeports"),
}
WHOLE = ("pods", "services", "services.loadbalancers", "services.nodeports", "configmaps", "secrets")
MOST_TASKS = 12
"""up to which the widest moment of a graph is looked for among all sets of tasks"""

Need = dict[str, float]


@dataclass(frozen=True)
class Demand:
    """What one object asks of the quota at most, and for what."""

    need: Need
    what: str


def check_quotas(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check the quotas and ranges of one rendered overlay."""
    for document in rendered.of_kind("LimitRange"):
        yield from _limit_range(tree.shown(rendered.file_of(document)), document)
    defaults = filled_in(rendered)
    demands = [demand for workload in workloads_in(rendered) if (demand := _deployed(rendered, workload, defaults))]
    demands += [_run(document, rendered, defaults) for document in rendered.of_kind(*WORKFLOW_KINDS)]
    for quota in rendered.of_kind("ResourceQuota"):
        yield from _quota(tree.shown(rendered.file_of(quota)), quota, demands, rendered)


def _quota(file: str, quota: Document, demands: list[Demand], rendered: Rendered) -> Iterator[Finding]:
    where, hard = f"{label(quota)}.spec.hard", quota["spec"].get("hard", {})
    for name in sorted(set(hard) - KNOWN):
        if "/" not in name and not name.startswith("requests.hugepages-"):
            what = "is nothing that a quota counts: the API server refuses it"
            yield Finding(file, f"{where}[{name}]", what, f"one of: {', '.join(sorted(KNOWN))}")
    for name in sorted(name for name in hard if name in WHOLE and not str(hard[name]).isdecimal()):
        yield Finding(file, f"{where}[{name}]", f"is {hard[name]!r}, and a count is a whole number", "write a number")
    for name in (*COUNTED, "pods"):
        given = hard.get(name, hard.get(name.removeprefix("requests.")) if name.startswith("requests.") else None)
        resource = name.rpartition(".")[2]
        if given is None or not (str(given).isdecimal() if name == "pods" else is_quantity(resource, given)):
            continue
        needed = sum(demand.need.get(name, 0) for demand in demands)
        if needed > float(int(given) if name == "pods" else amount(resource, given)) + 1e-9:
            amounts = f"{needed:.0f}" if name == "pods" else written(resource, needed)
            parts = " and ".join(demand.what for demand in demands if demand.need.get(name))
            what = f"is {given}, and {parts} ask for {amounts}: a pod beyond it is never made"
            yield Finding(file, f"{where}[{name}]", what, f"allow at least {amounts}, or ask for less")
    for name, kind in (("services.loadbalancers", "LoadBalancer"), ("services.nodeports", "NodePort")):
        of_kind = [name_of(s) for s in rendered.of_kind("Service") if s["spec"].get("type") == kind]
        if str(hard.get(name, "")).isdecimal() and len(of_kind) > int(hard[name]):
            what = f"is {hard[name]}, and {', '.join(of_kind)} is a {kind}"
            yield Finding(file, f"{where}[{name}]", what, f"allow {len(of_kind)}, or make it a ClusterIP")


def _limit_range(file: str, document: Document) -> Iterator[Finding]:
    """Check that min ≤ defaultRequest ≤ default ≤ max, without which the API server refuses the range."""
    for number, limit in enumerate(document["spec"].get("limits", [])):
        for resource in ("cpu", "memory"):
            given = [(key, limit.get(key, {}).get(resource)) for key in ("min", "defaultRequest", "default", "max")]
            read = [(key, amount(resource, text)) for key, text in given if text and is_quantity(resource, text)]
            for (low, less), (high, more) in pairwise(read):
                if less > more:
                    what = f"{low} {written(resource, less)} is beyond {high} {written(resource, more)}"
                    where = f"{label(document)}.spec.limits[{number}].{high}.{resource}"
                    yield Finding(file, where, f"{what}: the API server refuses it", f"raise {high}, or lower {low}")


def filled_in(rendered: Rendered) -> Mapping[str, Mapping[str, str]]:
    """Give what the namespace's LimitRange fills in, as `requests` and `limits`."""
    found: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for document in rendered.of_kind("LimitRange"):
        for limit in document["spec"].get("limits", []):
            if limit.get("type") == "Container":
                found["limits"] |= limit.get("default", {})
                found["requests"] |= {**limit.get("default", {}), **limit.get("defaultRequest", {})}
    return found


def _container(container: Mapping[str, Any], defaults: Mapping[str, Mapping[str, str]]) -> Need:
    resources = container.get("resources") or {}
    need = {}
    for name in COUNTED:
        group, _, resource = name.partition(".")
        text = (resources.get(group) or {}).get(resource)
        if text is None and group == "requests":
            text = (resources.get("limits") or {}).get(resource)  # a limit alone is the request, too
        text = defaults[group].get(resource) if text is None else text
        need[name] = amount(resource, text) if text and is_quantity(resource, text) else 0.0
    return need


def _pod(workload: Workload, defaults: Mapping[str, Mapping[str, str]]) -> Need:
    """Add up a pod as the quota does: its containers together, or the largest init container where that is more."""
    every = [*workload.containers, *executor_containers(workload)]
    first = [_container(one, defaults) for path, one in every if "initContainers" in path]
    together = [_container(one, defaults) for path, one in every if "initContainers" not in path]
    need = {name: max(sum(c[name] for c in together), *(c[name] for c in first), 0.0) for name in COUNTED}
    return need | {"pods": 1.0}


def _times(need: Need, factor: int) -> Need:
    return {name: value * factor for name, value in need.items()}


def _sum(needs: list[Need]) -> Need:
    return {name: sum(need.get(name, 0.0) for need in needs) for name in (*COUNTED, "pods")}


def _deployed(rendered: Rendered, workload: Workload, defaults: Mapping[str, Mapping[str, str]]) -> Demand | None:
    """Give what a Deployment or StatefulSet asks for at its largest; a DaemonSet's nodes are not known here."""
    document, spec = workload.document, workload.document.get("spec", {})
    if kind_of(document) not in ("Deployment", "StatefulSet", "Pod", "Job"):
        return None
    scalers = [h["spec"] for h in rendered.of_kind("HorizontalPodAutoscaler")]
    most = [s["maxReplicas"] for s in scalers if s["scaleTargetRef"]["name"] == name_of(document)]
    replicas = max([*most, spec.get("replicas", 1) if not most else 0])
    surge = ending = 0
    if kind_of(document) == "Deployment" and (spec.get("strategy") or {}).get("type") != "Recreate":
        given = str(((spec.get("strategy") or {}).get("rollingUpdate") or {}).get("maxSurge", "25%"))
        number = re.fullmatch(r"(\d+)(%?)", given)  # anything else is a finding of scaling.py
        surge = (ceil(replicas * int(number[1]) / 100) if number[2] else int(number[1])) if number else 0
        # A rollout waits for new pods to be ready, not for old ones to be gone, and the quota counts these, too.
        ending = replicas
    more = [f"{n} {what}" for n, what in ((surge, "of a rollout"), (ending, "still ending")) if n]
    what = f"{replicas} of {label(document)}" + (f" with {' and '.join(more)}" if more else "")
    return Demand(_times(_pod(workload, defaults), replicas + surge + ending), what)


def _run(document: Document, rendered: Rendered, defaults: Mapping[str, Mapping[str, str]]) -> Demand:
    """Give what one run asks for in its widest moment; runs wait for each other by the template's mutex."""
    _, spec = workflow_spec(document)
    pods = {
        w.path.rpartition("templates[")[2].rstrip("]"): _pod(w, defaults)
        for w in workloads_in(rendered)
        if w.document is document
    }
    templates = {str(template.get("name")): template for template in spec.get("templates", [])}
    starts = [str(spec[key]) for key in ("entrypoint", "onExit") if spec.get(key)]
    widest = [_widest(name, templates, pods, frozenset()) for name in starts] or [{}]
    need = {name: max(one.get(name, 0.0) for one in widest) for name in (*COUNTED, "pods")}
    return Demand(need, f"the widest moment of {label(document)}, with Argo's containers")


def _widest(
    name: str, templates: Mapping[str, Mapping[str, Any]], pods: Mapping[str, Need], above: frozenset[str]
) -> Need:
    """Give the most that a template's tasks ask for at once."""
    if name in pods or name in above or name not in templates:
        return pods.get(name, {})
    template, above = templates[name], above | {name}
    moments = [[str(step.get("template", "")) for step in group] for group in template.get("steps", [])]
    tasks = (template.get("dag") or {}).get("tasks", [])
    moments += [[str(task.get("template", "")) for task in tasks if task["name"] in names] for names in _at_once(tasks)]
    needs = [_sum([_widest(one, templates, pods, above) for one in moment]) for moment in moments]
    return {key: max((need[key] for need in needs), default=0.0) for key in (*COUNTED, "pods")}


def _at_once(tasks: list[Mapping[str, Any]]) -> Iterator[set[str]]:
    """Give every set of tasks of which none waits for another; of a large graph, all tasks as one."""
    direct = {str(task["name"]): awaited(task) for task in tasks}
    if len(direct) > MOST_TASKS:
        yield set(direct)
        return
    before: dict[str, set[str]] = {}
    for name in direct:
        seen, todo = set[str](), list(direct[name])
        while todo:
            if (one := todo.pop()) not in seen:
                seen.add(one)
                todo += direct.get(one, ())
        before[name] = seen
    for size in range(1, len(direct) + 1):
        for names in combinations(direct, size):
            if not any(one in before[other] for one in names for other in names):
                yield set(names)
