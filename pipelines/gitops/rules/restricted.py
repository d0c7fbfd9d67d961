"""Would Pod Security `restricted` take the pod, and does the namespace ask for it?"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Rendered, Tree, label
from pipelines.gitops.workloads import Workload, workloads_in

ENFORCE = "pod-security.kubernetes.io/enforce"
LEVELS = ("privileged", "baseline", "restricted")
RESTRICTED = LEVELS[-1]
# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
HOST = ("hostNetwork", "hostPID", "hostIPC")
MAY_ADD = {"NET_BIND_SERVICE"}


def check_restricted(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check every pod of one rendered overlay, and the level of its namespace."""
    for workload in workloads_in(rendered):
        file = tree.shown(rendered.file_of(workload.document))
        yield from _security(file, workload)
        yield from _host(file, workload)
    for namespace in rendered.of_kind("Namespace"):
        file, labels = tree.shown(rendered.file_of(namespace)), namespace["metadata"].get("labels", {})
        where = f"{label(namespace)}.metadata.labels"
        if ENFORCE not in labels:
            what = "is missing: pods in it may do what Pod Security would refuse"
            yield Finding(file, f"{where}[{ENFORCE}]", what, f"set {ENFORCE}: {RESTRICTED}")
        for name, value in labels.items():
            if name.startswith("pod-security.kubernetes.io/") and "-version" not in name and value not in LEVELS:
                what = f"is {value!r}, which is no level: the API server refuses the namespace"
                yield Finding(file, f"{where}[{name}]", what, f"one of: {', '.join(LEVELS)}")


def _security(file: str, workload: Workload) -> Iterator[Finding]:
    pod = workload.pod.get("securityContext") or {}
    own_contexts = [container.get("securityContext") or {} for _, container in workload.containers]
    users = [context.get("runAsUser", pod.get("runAsUser")) for context in own_contexts]
    if not all(isinstance(user, int) and user > 0 for user in users):
        what = "is missing: a user by name cannot be proven to be other than root"
        yield Finding(file, f"{workload.path}.securityContext.runAsUser", what, "set the image's numeric user, 10001")
    for path, container in workload.containers:
        own = container.get("securityContext") or {}
        both: Mapping[str, Any] = {**pod, **own}
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


def _host(file: str, workload: Workload) -> Iterator[Finding]:
    """Find what reaches for the node: its network and processes, its files, its rights."""
    for field in HOST:
        if workload.pod.get(field):
            yield _refused(file, f"{workload.path}.{field}", "is the node's own")
    for volume in workload.volumes:
        for kind in sorted(set(volume) - {"name"} - VOLUMES):
            yield _refused(file, f"{workload.path}.volumes[{volume.get('name')}].{kind}", "is no volume of a pod alone")
    for path, container in workload.containers:
        own = container.get("securityContext") or {}
        if own.get("privileged"):
            yield _refused(file, f"{path}.securityContext.privileged", "is root on the node")
        for name in sorted(set((own.get("capabilities") or {}).get("add") or []) - MAY_ADD):
            yield _refused(file, f"{path}.securityContext.capabilities.add", f"has {name}")
        for port in container.get("ports", []):
            if port.get("hostPort"):
                yield _refused(
                    file, f"{path}.ports[{port.get('name', port['containerPort'])}].hostPort", "is the node's"
                )


def _refused(file: str, field: str, what: str) -> Finding:
    return Finding(file, field, f"{what}, and Pod Security restricted refuses the pod", "take it out")
