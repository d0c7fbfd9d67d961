"""Would a node take the pod: Pod Security restricted, requests and limits, and room on a t3.micro?"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Document, Rendered, Tree, kind_of, label, name_of
from pipelines.gitops.workloads import Workload, workloads_in

MIB = 1 << 20
QUANTITY = re.compile(r"([0-9.]+)([kMGT]i?|Ki)?")
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": MIB, "Gi": 1 << 30, "Ti": 1 << 40}
# EKS leaves this much of 1 GiB to pods: 299 MiB are kube-reserved and 100 MiB kept for eviction (POD_OPTIMIZATION.md).
T3_MICRO_ALLOCATABLE_MIB = 548
T3_MICRO_DAEMONS_MIB = 128
"""kept for aws-node, kube-proxy and ebs-csi-node: a reserve that we chose, not a measurement"""
T3_MICRO_FREE_SLOTS = 1
SERVING = "inference"


def check_pods(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check every pod of one rendered overlay."""
    for workload in workloads_in(rendered):
        file = tree.shown(rendered.file_of(workload.document))
        yield from _security(file, workload)
        yield from _resources(file, workload)
        yield from _probes(file, workload)
        yield from _limit_range(file, rendered, workload)
        if kind_of(workload.document) == "Deployment":
            yield from _rollout(file, rendered, workload)
            yield from _budgets(tree, rendered, workload)


def memory_bytes(quantity: str) -> int:
    """Read a Kubernetes quantity.

    >>> memory_bytes("320Mi") // MIB
    320
    """
    match = QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity of memory, such as 320Mi")
    return int(float(match[1]) * UNITS[match[2] or ""])


def _security(file: str, workload: Workload) -> Iterator[Finding]:
    pod = workload.pod.get("securityContext") or {}
    own_contexts = [container.get("securityContext") or {} for _, container in workload.containers]
    users = [context.get("runAsUser", pod.get("runAsUser")) for context in own_contexts]
    if not all(isinstance(user, int) and user > 0 for user in users):
        what = "is missing: a user by name cannot be proven to be other than root"
        yield Finding(file, f"{workload.path}.securityContext.runAsUser", what, "set the image's numeric user, 10001")
    for path, container in workload.containers:
        own = container.get("securityContext") or {}
        both = {**pod, **own}
        wanted: tuple[tuple[str, Any, Any], ...] = (
            ("runAsNonRoot", both.get("runAsNonRoot"), True),
            ("allowPrivilegeEscalation", own.get("allowPrivilegeEscalation"), False),
            ("readOnlyRootFilesystem", own.get("readOnlyRootFilesystem"), True),
            ("capabilities.drop", (own.get("capabilities") or {}).get("drop"), ["ALL"]),
            ("seccompProfile.type", (both.get("seccompProfile") or {}).get("type"), "RuntimeDefault"),
        )
        for field, found, expected in wanted:
            if found != expected:
                what = f"is {found!r}, and Pod Security restricted (with a read-only root) wants {expected!r}"
                yield Finding(file, f"{path}.securityContext.{field}", what, f"set it to {expected!r}")


def _resources(file: str, workload: Workload) -> Iterator[Finding]:
    for path, container in workload.containers:
        resources = container.get("resources") or {}
        for field in ("requests.cpu", "requests.memory", "limits.memory"):
            group, _, name = field.partition(".")
            if name not in (resources.get(group) or {}):
                yield Finding(file, f"{path}.resources.{field}", "is missing", "set what was measured")
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        unreadable = [
            text
            for text in (limits.get("memory"), requests.get("memory"))
            if text and not QUANTITY.fullmatch(str(text))
        ]
        if unreadable:
            what = f"{unreadable[0]!r} is no quantity of memory"
            yield Finding(file, f"{path}.resources", what, "write it as 320Mi or 2Gi")
            return
        if (
            "memory" in limits
            and "memory" in requests
            and memory_bytes(limits["memory"]) < memory_bytes(requests["memory"])
        ):
            what = f"{limits['memory']} is less than the request {requests['memory']}"
            yield Finding(file, f"{path}.resources.limits.memory", what, "a limit is at least the request")
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


def _limit(container: Mapping[str, Any]) -> int:
    return memory_bytes(((container.get("resources") or {}).get("limits") or {}).get("memory", "0"))


def _limit_range(file: str, rendered: Rendered, workload: Workload) -> Iterator[Finding]:
    """Check containers against the namespace's LimitRange: the API server refuses pods beyond it."""
    ranges = [limit for document in rendered.of_kind("LimitRange") for limit in document["spec"]["limits"]]
    most = [
        limit["max"]["memory"] for limit in ranges if limit["type"] == "Container" and "memory" in limit.get("max", {})
    ]
    for path, container in workload.containers:
        own = str(((container.get("resources") or {}).get("limits") or {}).get("memory", "0"))
        for largest in most:
            if QUANTITY.fullmatch(own) and memory_bytes(own) > memory_bytes(largest):
                what = f"{own} is beyond the LimitRange's {largest}: no pod is ever made"
                yield Finding(file, f"{path}.resources.limits.memory", what, "raise max in quota.yaml, or ask for less")


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


def _rollout(file: str, rendered: Rendered, workload: Workload) -> Iterator[Finding]:
    """Find a rollout that would wait for ever."""
    document = workload.document
    spec = document["spec"]
    replicas = spec.get("replicas", 1)
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    scaled = any(
        h["spec"]["scaleTargetRef"]["name"] == name_of(document) for h in rendered.of_kind("HorizontalPodAutoscaler")
    )
    if SERVING in name_of(document) and replicas == T3_MICRO_FREE_SLOTS and not scaled:
        surge, unavailable = rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%")
        if spec.get("strategy", {}).get("type") != "Recreate" and (surge != 0 or unavailable == 0):
            yield Finding(
                file,
                f"{label(document)}.spec.strategy.rollingUpdate",
                f"maxSurge {surge}, maxUnavailable {unavailable} need a second free pod slot, and a t3.micro has one",
                "set maxSurge: 0 and maxUnavailable: 1",
            )


def _budgets(tree: Tree, rendered: Rendered, workload: Workload) -> Iterator[Finding]:
    replicas = workload.document["spec"].get("replicas", 1)
    for budget in rendered.of_kind("PodDisruptionBudget"):
        wanted = (budget["spec"].get("selector") or {}).get("matchLabels", {})
        covers = bool(wanted) and all(workload.labels.get(key) == value for key, value in wanted.items())
        if covers and _blocks_drain(budget, replicas):
            what = f"lets no pod of {replicas} go, so a node can never be drained"
            yield Finding(tree.shown(rendered.file_of(budget)), f"{label(budget)}.spec", what, "set maxUnavailable: 1")


def _blocks_drain(budget: Document, replicas: int) -> bool:
    spec = budget["spec"]
    return spec.get("minAvailable") in (replicas, f"{replicas}", "100%") or spec.get("maxUnavailable") in (0, "0", "0%")
