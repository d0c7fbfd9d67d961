"""Are names, labels and annotations ones that the API server takes, and is what must be there once not there twice?"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Document, Rendered, Tree, kind_of, label, name_of, walk
from pipelines.gitops.workloads import Workload, workloads_in

WAVE = "argocd.argoproj.io/sync-wave"
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"|[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
SHORT = {"Namespace", "Service"}  # named by a DNS label, without dots
LOOSE = {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}  # take colons and capitals, too


def check_names(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check the names, labels and annotations of one rendered overlay."""
    for document in rendered.documents:
        file = tree.shown(rendered.file_of(document))
        yield from _metadata(file, document)
        if kind_of(document) == "Service":
            where = f"{label(document)}.spec.ports"
            ports = document["spec"].get("ports", [])
            yield from _twice(file, where, "port", [(p.get("port"), p.get("protocol", "TCP")) for p in ports])
            yield from _twice(file, where, "name", [p["name"] for p in ports if "name" in p])
            for name in (str(port["name"]) for port in ports if "name" in port):
                if not LABEL.fullmatch(name):
                    what = f"{name!r} is no name of a port: the API server refuses it"
                    yield Finding(file, where, what, "use lower-case letters, digits and '-'")
    for workload in workloads_in(rendered):
        yield from _workload(tree.shown(rendered.file_of(workload.document)), workload)


def _metadata(file: str, document: Document) -> Iterator[Finding]:
    name, kind, where = name_of(document), kind_of(document), f"{label(document)}.metadata"
    shape = LABEL if kind in SHORT else SUBDOMAIN
    if kind not in LOOSE and "{{" not in name and name and not shape.fullmatch(name):
        what = f"{name!r} is no name of a {kind}: the API server refuses it"
        yield Finding(file, f"{where}.name", what, "use lower-case letters, digits and '-'")
    for field, value in walk(document["metadata"], where):
        part = field.removeprefix(f"{where}.").partition(".")[0]
        if part not in ("labels", "annotations") or not isinstance(value, str):
            continue  # numbers and booleans: kustomize has made texts of them
        if part == "labels" and "{{" not in value and not LABEL_VALUE.fullmatch(value):
            what = f"{value!r} is no value of a label: the API server refuses it"
            yield Finding(file, field, what, "letters, digits, '-', '_' and '.', at most 63 of them")
        elif field.endswith(WAVE) and wave_of(document) is None:
            what = f"{value!r} is no number, and Argo CD takes it as 0"
            yield Finding(file, field, what, 'write a whole number in quotes, such as "-1"')


def wave_of(document: Document) -> int | None:
    """Give the sync wave of an object, 0 where it has none, None for one that is no number."""
    text = str((document["metadata"].get("annotations") or {}).get(WAVE, "0"))
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else None


def _workload(file: str, workload: Workload) -> Iterator[Finding]:
    names = [volume.get("name") for volume in workload.volumes]
    yield from _twice(file, f"{workload.path}.volumes", "name", names)
    yield from _twice(file, workload.path, "container", [c.get("name") for _, c in workload.containers if "name" in c])
    ports = [port for _, container in workload.containers for port in container.get("ports", [])]
    yield from _twice(file, f"{workload.path}.ports", "name", [port["name"] for port in ports if "name" in port])
    for path, container in workload.containers:
        if "name" in container and not LABEL.fullmatch(str(container["name"])):
            what = f"{container['name']!r} is no name of a container: the API server refuses it"
            yield Finding(file, f"{path}.name", what, "use lower-case letters, digits and '-'")
        env, mounts = container.get("env", []), container.get("volumeMounts", [])
        yield from _twice(file, f"{path}.env", "name", [variable.get("name") for variable in env])
        yield from _twice(file, f"{path}.volumeMounts", "mountPath", [mount.get("mountPath") for mount in mounts])


def _twice(file: str, where: str, what: str, values: Iterable[Any]) -> Iterator[Finding]:
    for value, n in Counter(values).items():
        if n > 1:
            shown = "/".join(map(str, value)) if isinstance(value, tuple) else value
            said = f"{what} {shown} is there {n} times, and only one of them can be meant"
            yield Finding(file, where, said, "remove the others")
