"""Do objects reach the pods that they are for: selectors by labels, Services and NetworkPolicies by names of ports?"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Document, Rendered, Tree, label
from pipelines.gitops.workloads import Workload, workloads_in


def check_wiring(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check the labels and ports of one rendered overlay."""
    workloads = workloads_in(rendered)
    for document in rendered.of_kind("Deployment", "StatefulSet", "DaemonSet"):
        yield from _selector(tree.shown(rendered.file_of(document)), document)
    for workload in workloads:
        file = tree.shown(rendered.file_of(workload.document))
        for number, spread in enumerate(workload.pod.get("topologySpreadConstraints", [])):
            for key, value in ((spread.get("labelSelector") or {}).get("matchLabels") or {}).items():
                if workload.labels.get(key) != value:
                    where = f"{workload.path}.topologySpreadConstraints[{number}].labelSelector"
                    what = f"counts pods with {key}={value}, which these pods do not have: nothing is spread"
                    yield Finding(file, where, what, "use the labels of spec.template.metadata")
    for document in rendered.of_kind("Service"):
        yield from _service(tree.shown(rendered.file_of(document)), document, workloads)
        for workload in _selected(document["spec"].get("selector") or {}, workloads):
            if not any("readinessProbe" in container for _, container in workload.containers):
                what = f"has none, and {label(document)} sends it requests as soon as its process runs"
                where = f"{workload.path}.containers.readinessProbe"
                yield Finding(tree.shown(rendered.file_of(workload.document)), where, what, "ask it when it can answer")
    for document in rendered.of_kind("NetworkPolicy"):
        yield from _policy(tree.shown(rendered.file_of(document)), document, workloads)


def _selector(file: str, document: Document) -> Iterator[Finding]:
    wanted = document["spec"].get("selector", {}).get("matchLabels", {})
    labels = document["spec"]["template"].get("metadata", {}).get("labels", {})
    for key, value in wanted.items():
        if labels.get(key) != value:
            what = f"wants {key}={value}, which its own pods do not have: the API server refuses it"
            yield Finding(file, f"{label(document)}.spec.selector", what, "give spec.template.metadata the same labels")


def _selected(selector: Mapping[str, Any], workloads: list[Workload]) -> list[Workload]:
    return [w for w in workloads if all(w.labels.get(key) == value for key, value in selector.items())]


def _names(workloads: list[Workload]) -> set[str]:
    ports = [port for w in workloads for _, container in w.containers for port in container.get("ports", [])]
    return {str(port["name"]) for port in ports if "name" in port}


def _service(file: str, document: Document, workloads: list[Workload]) -> Iterator[Finding]:
    selected = _selected(document["spec"].get("selector") or {}, workloads)
    known = _names(selected)
    for port in document["spec"].get("ports", []):
        target = port.get("targetPort")
        if selected and isinstance(target, str) and target not in known:
            field = f"{label(document)}.spec.ports[{port.get('name')}].targetPort"
            yield Finding(file, field, f"names port {target}, which no selected pod has", _there(known))


def _policy(file: str, document: Document, workloads: list[Workload]) -> Iterator[Finding]:
    spec, where = document["spec"], f"{label(document)}.spec"
    for field, kind in (("ingress", "Ingress"), ("egress", "Egress")):
        if spec.get(field) and "policyTypes" in spec and kind not in spec["policyTypes"]:
            what = f"has no {kind}, so that the rules under {field} do nothing"
            yield Finding(file, f"{where}.policyTypes", what, f"add {kind}")
    selector = (spec.get("podSelector") or {}).get("matchLabels", {})
    known = _names(_selected(selector, workloads))
    for rule in spec.get("ingress") or []:
        for port in rule.get("ports", []):
            if isinstance(port.get("port"), str) and port["port"] not in known:
                what = f"opens port {port['port']}, which no selected pod has"
                yield Finding(file, f"{where}.ingress", what, _there(known))


def _there(names: set[str]) -> str:
    return f"there are: {', '.join(sorted(names)) or 'none'}"
