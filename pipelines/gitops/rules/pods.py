"""Would a node take the pod: requests and limits, room on a t3.micro, probes on open ports?"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.quantities import MIB, amount, is_quantity, memory_bytes
from pipelines.gitops.tree import Rendered, Tree, documents_of, kind_of, name_of
from pipelines.gitops.workloads import Workload, executor_containers, workloads_in

# EKS leaves this much of 1 GiB to pods: 299 MiB are kube-reserved and 100 MiB kept for eviction (POD_OPTIMIZATION.md).
T3_MICRO_ALLOCATABLE_MIB = 548
T3_MICRO_DAEMONS_MIB = 128
"""kept for aws-node, kube-proxy and ebs-csi-node: a reserve that we chose, not a measurement"""
SERVING = "inference"
PRIORITIES = {"system-cluster-critical", "system-node-critical"}
"""those that every cluster has"""


def check_pods(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check every pod of one rendered overlay."""
    for workload in workloads_in(rendered):
        file = tree.shown(rendered.file_of(workload.document))
        yield from _resources(file, workload)
        yield from _in_memory(file, workload)
        yield from _probes(file, workload)
        yield from _limit_range(file, rendered, workload)
        yield from _priority(tree, rendered, file, workload)


def _priority(tree: Tree, rendered: Rendered, file: str, workload: Workload) -> Iterator[Finding]:
    """Check that a PriorityClass is there: the Deployment is taken without it, and each of its pods refused."""
    for field in ("priorityClassName", "podPriorityClassName"):
        name = str(workload.pod.get(field) or "")
        if not name or name in PRIORITIES or rendered.find("PriorityClass", name):
            continue
        files = (path for path in tree.yaml_files if "PriorityClass" in path.read_text(encoding="utf-8"))
        written = {name_of(one) for path in files for one in documents_of(path) if kind_of(one) == "PriorityClass"}
        if name not in written:
            what = f"names PriorityClass {name}, which is in no file: no pod is ever made"
            yield Finding(file, f"{workload.path}.{field}", what, "add a PriorityClass of that name, or leave it out")


def _resources(file: str, workload: Workload) -> Iterator[Finding]:
    for path, container in workload.containers:
        resources = container.get("resources") or {}
        for field in ("requests.cpu", "requests.memory", "limits.memory"):
            group, _, name = field.partition(".")
            if name not in (resources.get(group) or {}):
                yield Finding(file, f"{path}.resources.{field}", "is missing", "set what was measured")
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for resource, example in (("memory", "320Mi or 2Gi"), ("cpu", "250m or 2")):
            given = [str(group[resource]) for group in (limits, requests) if resource in group]
            unreadable = [text for text in given if not is_quantity(resource, text)]
            if unreadable:
                what = f"{unreadable[0]!r} is no quantity of {resource}"
                yield Finding(file, f"{path}.resources", what, f"write it as {example}")
                return
            if len(given) == 2 and amount(resource, given[0]) < amount(resource, given[1]):
                what = f"{given[0]} is less than the request {given[1]}"
                yield Finding(file, f"{path}.resources.limits.{resource}", what, "a limit is at least the request")
    if kind_of(workload.document) == "Deployment" and SERVING in name_of(workload.document):
        limit = sum(_limit(container) for _, container in workload.containers)
        room = T3_MICRO_ALLOCATABLE_MIB - T3_MICRO_DAEMONS_MIB
        if limit > room * MIB:
            yield Finding(
                file,
                f"{workload.path}.resources.limits.memory",
                f"{limit // MIB} MiB do not fit a t3.micro, which leaves {room} MiB beside its DaemonSets",
                "see docs/POD_OPTIMIZATION.md; a larger pod needs a larger node",
            )


def _in_memory(file: str, workload: Workload) -> Iterator[Finding]:
    """Find volumes in memory that could fill the pod's limit: what is written there counts as its memory."""
    limit = sum(_limit(container) for _, container in workload.containers)
    for volume in workload.volumes:
        folder = volume.get("emptyDir") or {}
        size = str(folder.get("sizeLimit", limit))
        if folder.get("medium") == "Memory" and is_quantity("memory", size) and memory_bytes(size) >= limit:
            what = f"may take {folder.get('sizeLimit', 'all')} of the pod's {limit // MIB} MiB, because it is in memory"
            yield Finding(
                file, f"{workload.path}.volumes[{volume['name']}]", what, "leave out medium, or set sizeLimit"
            )


def _limit(container: Mapping[str, Any]) -> int:
    """Give a memory limit in bytes; 0 for none, and for one that cannot be read, which is a finding of its own."""
    text = str(((container.get("resources") or {}).get("limits") or {}).get("memory", "0"))
    return memory_bytes(text) if is_quantity("memory", text) else 0


def _limit_range(file: str, rendered: Rendered, workload: Workload) -> Iterator[Finding]:
    """Check containers, Argo's own too, against the namespace's LimitRange: the API server refuses pods beyond it."""
    ranges = [limit for document in rendered.of_kind("LimitRange") for limit in document["spec"]["limits"]]
    for path, container in [*workload.containers, *executor_containers(workload)]:
        resources = container.get("resources") or {}
        for limit in (one for one in ranges if one["type"] == "Container"):
            for key, group, word in (("max", "limits", "beyond"), ("min", "requests", "below")):
                for resource, bound in limit.get(key, {}).items():
                    own = (resources.get(group) or {}).get(resource)
                    if own is None or not (is_quantity(resource, own) and is_quantity(resource, bound)):
                        continue
                    over = amount(resource, own) - amount(resource, bound)
                    if (over if key == "max" else -over) > 0:
                        what = f"{own} is {word} the LimitRange's {bound}: no pod is ever made"
                        where = f"{path}.resources.{group}.{resource}"
                        yield Finding(file, where, what, f"change {key} in quota.yaml, or what is asked for")


def _probes(file: str, workload: Workload) -> Iterator[Finding]:
    for path, container in workload.containers:
        ports = container.get("ports", [])
        known = {port.get("name") for port in ports} | {port["containerPort"] for port in ports}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind) or {}
            target = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
            if target is not None and target not in known:
                there = ", ".join(sorted(str(name) for name in known if name is not None)) or "none"
                yield Finding(
                    file,
                    f"{path}.{kind}",
                    f"asks port {target}, which the container does not open",
                    f"there are: {there}",
                )
