"""Does what an object names exist beside it: ConfigMap keys, Secrets, ServiceAccounts, Roles, volumes, labels?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Document, Rendered, Tree, kind_of, label, name_of
from pipelines.gitops.workloads import Workload, workloads_in

GIVEN = {"ConfigMap": ("kube-root-ca.crt",), "ServiceAccount": ("default",), "Secret": ()}  # every namespace has these

VOLUMES = (
    ("configMap", "ConfigMap", "name"),
    ("secret", "Secret", "secretName"),
    ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
)


def check_stores(tree: Tree, every: Sequence[Rendered]) -> Iterator[Finding]:
    """Check that the store of each ExternalSecret is in some build: one store is there for the whole cluster."""
    stores = {(kind_of(d), name_of(d)) for r in every for d in r.of_kind("ClusterSecretStore", "SecretStore")}
    for rendered in every:
        for document in rendered.of_kind("ExternalSecret"):
            reference = document["spec"].get("secretStoreRef") or {}
            wanted = (str(reference.get("kind", "SecretStore")), str(reference.get("name")))
            if wanted not in stores:
                there = ", ".join("/".join(store) for store in sorted(stores)) or "none"
                what = f"names {'/'.join(wanted)}, which is not there: the Secret is never made"
                where = f"{label(document)}.spec.secretStoreRef"
                yield Finding(tree.shown(rendered.file_of(document)), where, what, f"there are: {there}")


def check_references(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check one rendered overlay; what lives in other namespaces is not looked for."""
    for workload in workloads_in(rendered):
        file = tree.shown(rendered.file_of(workload.document))
        yield from _workload(file, rendered, workload)
    for document in rendered.documents:
        file = tree.shown(rendered.file_of(document))
        yield from _bindings(file, rendered, document)
        yield from _selectors(file, rendered, document)


def _workload(file: str, rendered: Rendered, workload: Workload) -> Iterator[Finding]:
    account = workload.service_account
    if account and not _exists(rendered, "ServiceAccount", account):
        yield _missing(file, f"{workload.path}.serviceAccountName", rendered, "ServiceAccount", account)
    for reference in workload.pod.get("imagePullSecrets") or []:
        if not _exists(rendered, "Secret", reference.get("name", "")):
            yield _missing(file, f"{workload.path}.imagePullSecrets", rendered, "Secret", reference.get("name", ""))
    volumes = {volume.get("name") for volume in workload.volumes}
    for path, container in workload.containers:
        for mount in container.get("volumeMounts", []):
            if mount.get("name") not in volumes:
                yield Finding(
                    file,
                    f"{path}.volumeMounts[{mount.get('name')}]",
                    "mounts a volume that the pod does not declare",
                    f"declare it under volumes; there are: {', '.join(sorted(map(str, volumes))) or 'none'}",
                )
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if key in source:
                    yield from _key(file, f"{path}.env[{variable.get('name')}]", rendered, kind, source[key])
        for number, source in enumerate(container.get("envFrom", [])):
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                reference = source.get(key)
                if reference and not reference.get("optional") and not _exists(rendered, kind, reference["name"]):
                    yield _missing(file, f"{path}.envFrom[{number}]", rendered, kind, reference["name"])
    for volume in workload.volumes:
        for key, kind, name_key in VOLUMES:
            reference = volume.get(key)
            if reference and not reference.get("optional") and not _exists(rendered, kind, reference[name_key]):
                yield _missing(file, f"{workload.path}.volumes[{volume['name']}]", rendered, kind, reference[name_key])


def _key(file: str, field: str, rendered: Rendered, kind: str, reference: Mapping[str, Any]) -> Iterator[Finding]:
    if reference.get("optional"):
        return
    name, key = reference["name"], reference["key"]
    if not _exists(rendered, kind, name):
        yield _missing(file, field, rendered, kind, name)
        return
    document = rendered.find(kind, name)
    keys = set((document or {}).get("data", {})) | set((document or {}).get("stringData", {}))
    if kind == "Secret" and (external := _external(rendered, name)):
        keys |= {entry["secretKey"] for entry in external.get("spec", {}).get("data", [])}
        if external.get("spec", {}).get("dataFrom"):
            return
    if key not in keys:
        yield Finding(
            file,
            field,
            f"reads key {key!r} of {kind} {name}, which has {', '.join(sorted(keys)) or 'no keys'}",
            "add the key, correct its name, or mark the reference optional",
        )


def _external(rendered: Rendered, name: str) -> Document | None:
    """Find what will make a Secret of that name in the cluster."""
    for document in rendered.of_kind("ExternalSecret"):
        if document["spec"].get("target", {}).get("name", name_of(document)) == name:
            return document
    return rendered.find("SealedSecret", name)


def _exists(rendered: Rendered, kind: str, name: str) -> bool:
    if name in GIVEN.get(kind, ()):
        return True
    return rendered.find(kind, name) is not None or (kind == "Secret" and _external(rendered, name) is not None)


def _missing(file: str, field: str, rendered: Rendered, kind: str, name: str) -> Finding:
    there = ", ".join(sorted(name_of(document) for document in rendered.of_kind(kind))) or "none"
    what = f"names {kind} {name}, which {tree_word(rendered)} does not have"
    return Finding(file, field, what, f"add it to the base or correct the name; there are: {there}")


def tree_word(rendered: Rendered) -> str:
    """Name a folder by its last two parts, as `overlays/staging`."""
    return "/".join(rendered.folder.parts[-2:])


def _bindings(file: str, rendered: Rendered, document: Document) -> Iterator[Finding]:
    if kind_of(document) not in ("RoleBinding", "ClusterRoleBinding"):
        return
    role = document["roleRef"]
    given = role["kind"] == "ClusterRole" and role["name"] in ("view", "edit", "admin", "cluster-admin")
    if not given and not _exists(rendered, role["kind"], role["name"]):
        yield _missing(file, f"{label(document)}.roleRef", rendered, role["kind"], role["name"])
    for number, subject in enumerate(document.get("subjects", [])):
        own = document["metadata"].get("namespace")
        here = subject.get("namespace", own) == own
        if subject["kind"] == "ServiceAccount" and here and not _exists(rendered, "ServiceAccount", subject["name"]):
            yield _missing(file, f"{label(document)}.subjects[{number}]", rendered, "ServiceAccount", subject["name"])


def _selectors(file: str, rendered: Rendered, document: Document) -> Iterator[Finding]:
    """Check that selectors find what they are for, and that ports by name are there."""
    spec, kind = document.get("spec", {}), kind_of(document)
    if kind == "Service" and spec.get("selector"):
        yield from _service(file, rendered, document)
    elif kind in ("PodDisruptionBudget", "NetworkPolicy"):
        key = "selector" if kind == "PodDisruptionBudget" else "podSelector"
        if (wanted := (spec.get(key) or {}).get("matchLabels")) and not _pods_with(rendered, wanted):
            yield _selects_nothing(file, f"{label(document)}.spec.{key}", wanted, "pod")
    elif kind == "ServiceMonitor" and _same_namespace(rendered, document):
        wanted = (spec.get("selector") or {}).get("matchLabels", {})
        services = [s for s in rendered.of_kind("Service") if _has(s["metadata"].get("labels", {}), wanted)]
        if not services:
            yield _selects_nothing(file, f"{label(document)}.spec.selector", wanted, "Service")
            return
        ports = {port.get("name") for service in services for port in service["spec"]["ports"]}
        for endpoint in spec.get("endpoints", []):
            if "port" in endpoint and endpoint["port"] not in ports:
                yield _no_port(file, f"{label(document)}.spec.endpoints", endpoint["port"], ports)
    elif kind == "HorizontalPodAutoscaler":
        target = spec["scaleTargetRef"]
        if rendered.find(target["kind"], target["name"]) is None:
            yield _missing(file, f"{label(document)}.spec.scaleTargetRef", rendered, target["kind"], target["name"])


def _same_namespace(rendered: Rendered, document: Document) -> bool:
    return not (document["spec"].get("namespaceSelector") or {}) and bool(rendered.of_kind("Service"))


def _service(file: str, rendered: Rendered, document: Document) -> Iterator[Finding]:
    spec = document["spec"]
    pods = _pods_with(rendered, spec["selector"])
    if not pods:
        yield _selects_nothing(file, f"{label(document)}.spec.selector", spec["selector"], "pod")
        return
    ports = [port for pod in pods for _, container in pod.containers for port in container.get("ports", [])]
    known = {port.get("name") for port in ports} | {port["containerPort"] for port in ports}
    for port in spec["ports"]:
        target = port.get("targetPort", port["port"])
        if target not in known:
            yield _no_port(
                file, f"{label(document)}.spec.ports[{port.get('name', port['port'])}].targetPort", target, known
            )


def _pods_with(rendered: Rendered, wanted: Mapping[str, str]) -> list[Workload]:
    return [workload for workload in workloads_in(rendered) if _has(workload.labels, wanted)]


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def _selects_nothing(file: str, field: str, wanted: Mapping[str, str], what: str) -> Finding:
    words = ", ".join(f"{key}={value}" for key, value in wanted.items())
    return Finding(
        file, field, f"selects no {what}: none has the labels {words}", f"use the labels that the {what} has"
    )


def _no_port(file: str, field: str, port: Any, known: set[Any]) -> Finding:
    there = ", ".join(sorted(str(name) for name in known if name is not None)) or "none"
    return Finding(file, field, f"names port {port}, which is not there", f"there are: {there}")
