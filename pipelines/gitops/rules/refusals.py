"""What an API server refuses although the schema of the kind allows it; each was refused by one of Kubernetes 1.36."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.admission import BINDING, POLICY
from pipelines.gitops.tree import Document, Rendered, Tree, kind_of, label
from pipelines.gitops.workloads import workloads_in

OPERATIONS = {"CREATE", "UPDATE", "DELETE", "CONNECT", "*"}
CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
OF_CONTAINERS = ("default", "defaultRequest")


def check_refusals(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check every object of one build."""
    for workload in workloads_in(rendered):
        file = tree.shown(rendered.file_of(workload.document))
        for path, container in workload.containers:
            ports = [(port.get("containerPort"), port.get("protocol", "TCP")) for port in container.get("ports", [])]
            yield from _twice(file, f"{path}.ports", ports)
            for probe in ("livenessProbe", "startupProbe"):
                if (container.get(probe) or {}).get("successThreshold", 1) != 1:
                    yield Finding(file, f"{path}.{probe}.successThreshold", "must be 1 for this probe", "leave it out")
        spread = workload.pod.get("topologySpreadConstraints") or []
        keys = [(one.get("topologyKey"), one.get("whenUnsatisfiable")) for one in spread]
        yield from _twice(file, f"{workload.path}.topologySpreadConstraints", keys)
    checks = {
        "ConfigMap": _config_map,
        "Deployment": _deployment,
        "LimitRange": _limit_range,
        "NetworkPolicy": _network_policy,
        POLICY: _policy,
        BINDING: _binding,
    }
    for document in rendered.of_kind(*checks):
        for field, what, mend in checks[kind_of(document)](document):
            yield Finding(tree.shown(rendered.file_of(document)), f"{label(document)}.{field}", what, mend)


Faults = Iterator[tuple[str, str, str]]


def _twice(file: str, where: str, keys: list[tuple[Any, Any]]) -> Iterator[Finding]:
    for key, times in Counter(keys).items():
        if times > 1:
            yield Finding(file, where, f"has {' '.join(map(str, key))} {times} times", "keep one of them")


def _config_map(document: Document) -> Faults:
    for key in [*(document.get("data") or {}), *(document.get("binaryData") or {})]:
        if not CONFIG_KEY.fullmatch(str(key)):
            yield f"data[{key}]", "is no key of a ConfigMap", "use letters, digits, '-', '_' and '.'"


def _deployment(document: Document) -> Faults:
    rolling = (document["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    if {str(rolling.get(key, "25%")).rstrip("%") for key in ("maxSurge", "maxUnavailable")} == {"0"}:
        what = "maxSurge and maxUnavailable are both 0: no pod could ever be replaced"
        yield "spec.strategy.rollingUpdate", what, "set one of them to 1"


def _limit_range(document: Document) -> Faults:
    for number, limit in enumerate(document["spec"].get("limits", [])):
        for key in OF_CONTAINERS:
            if limit.get("type") == "Pod" and key in limit:
                yield f"spec.limits[{number}].{key}", "is not for limits of the type Pod", "set it for type: Container"


def _network_policy(document: Document) -> Faults:
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(document["spec"].get(direction) or []):
            for peer in (rule or {}).get(side) or []:
                if "ipBlock" in peer and len(peer) > 1:
                    what = "has ipBlock and a selector in one entry"
                    yield f"spec.{direction}[{number}].{side}", what, "make two entries of them"


def _policy(document: Document) -> Faults:
    spec: Mapping[str, Any] = document["spec"]
    for number, rule in enumerate((spec.get("matchConstraints") or {}).get("resourceRules") or []):
        for name in sorted(set(rule.get("operations") or []) - OPERATIONS):
            what = f"has {name}"
            where = f"spec.matchConstraints.resourceRules[{number}].operations"
            yield where, what, f"one of: {', '.join(sorted(OPERATIONS))}"
    defined: set[str] = set()
    for key in ("variables", "validations"):
        for number, entry in enumerate(spec.get(key) or []):
            used = set(re.findall(r"\bvariables\.(\w+)", str(entry.get("expression", ""))))
            for name in sorted(used - defined):
                what = f"reads variables.{name}, which is not defined above it"
                yield f"spec.{key}[{number}].expression", what, f"there are: {', '.join(sorted(defined)) or 'none'}"
            if key == "variables":
                defined.add(str(entry.get("name")))


def _binding(document: Document) -> Faults:
    if {"Deny", "Warn"} <= set(document["spec"].get("validationActions") or []):
        yield "spec.validationActions", "has Deny and Warn, which say the same twice", "keep Deny"
