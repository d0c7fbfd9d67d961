"""Faults that an API server of Kubernetes 1.36 refused and that schemas let through, each seeded into the tree."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.gitops.rules.refusals import check_refusals
from pipelines.gitops.tree import Rendered, Tree, documents_of
from tests.pipelines.gitops.trees import DEPLOYMENT, GITOPS, INFERENCE

LIMITS = "policy/admission/limits-set.yaml"
POLICIES = f"{INFERENCE}/base/network-policies.yaml"


def container(d: list[Any]) -> Any:
    return d[0]["spec"]["template"]["spec"]["containers"][0]


def peer(d: list[Any]) -> Any:
    return d[2]["spec"]["egress"][0]["to"][0]


FAULTS = {
    "nothing may move": (
        DEPLOYMENT,
        lambda d: d[0]["spec"]["strategy"]["rollingUpdate"].update(maxSurge=0, maxUnavailable="0%"),
        "both 0",
    ),
    "port twice": (
        DEPLOYMENT,
        lambda d: container(d)["ports"].append({"name": "again", "containerPort": 8080}),
        "8080 TCP 2 times",
    ),
    "liveness that counts": (DEPLOYMENT, lambda d: container(d)["livenessProbe"].update(successThreshold=2), "be 1"),
    "spread twice": (
        DEPLOYMENT,
        lambda d: d[0]["spec"]["template"]["spec"]["topologySpreadConstraints"].append(
            {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 2}
        ),
        "kubernetes.io/hostname ScheduleAnyway 2 times",
    ),
    "peer of two kinds": (POLICIES, lambda d: peer(d).update(namespaceSelector={}), "ipBlock and a selector"),
    "defaults of a pod": (
        f"{INFERENCE}/base/quota.yaml",
        lambda d: d[1]["spec"]["limits"][0].update(type="Pod"),
        "not for limits of the type Pod",
    ),
    "operation that there is not": (
        LIMITS,
        lambda d: d[0]["spec"]["matchConstraints"]["resourceRules"][0].update(operations=["PATCH"]),
        "has PATCH",
    ),
    "variables in the wrong order": (
        LIMITS,
        lambda d: d[0]["spec"]["variables"].reverse(),
        "reads variables.pod, which is not defined above it",
    ),
    "variable that there is not": (
        LIMITS,
        lambda d: d[0]["spec"]["validations"][0].update(expression="variables.pods.all(c, true)"),
        "reads variables.pods",
    ),
    "binding that warns and denies": (
        LIMITS,
        lambda d: d[1]["spec"].update(validationActions=["Deny", "Warn"]),
        "Deny and Warn",
    ),
    "key of a ConfigMap": (
        f"{INFERENCE}/components/s3-server/configmap.yaml",
        lambda d: d[0]["data"].update({"a b": "1"}),
        "is no key of a ConfigMap",
    ),
}


@pytest.mark.parametrize(("file", "seed", "what"), FAULTS.values(), ids=FAULTS)
def test_what_an_api_server_refuses_is_found(file: str, seed: Any, what: str, tmp_path: Path) -> None:
    documents = documents_of(GITOPS / file)
    assert list(check_refusals(Tree(GITOPS), Rendered(tmp_path, {}, documents))) == []
    seed(documents)
    findings = list(check_refusals(Tree(GITOPS), Rendered(tmp_path, {}, documents)))
    assert findings
    assert all(what in finding.what for finding in findings)
