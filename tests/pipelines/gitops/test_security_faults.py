"""Faults of rights, each seeded into a copy of the tree: what Pod Security refuses, and what it would not look at."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.gitops.trees import (
    CONTAINER,
    DEPLOYMENT,
    INFERENCE,
    PIPELINE,
    SERVING,
    TEMPLATE,
    TRAINING,
    WORKFLOW,
    Fault,
    Seed,
    assert_found,
    edit,
    edited,
)

POD = CONTAINER.removesuffix(".containers[inference]")
PATCH = TEMPLATE.replace("templates", "podSpecPatch")
NAMESPACE = f"{INFERENCE}/base/namespace.yaml"
ENFORCE = "pod-security.kubernetes.io/enforce: restricted"
Part = dict[str, Any]


def pod(work: Callable[[dict[str, Any]], None]) -> Seed:
    return edited(DEPLOYMENT, lambda d: work(d[0]["spec"]["template"]["spec"]))


def waiting(work: Callable[[Part], object]) -> Seed:
    """Change what podSpecPatch says of Argo's container `wait`."""

    def change(documents: list[Part]) -> None:
        patch = json.loads(documents[0]["spec"]["podSpecPatch"])
        work(patch["containers"][0])
        documents[0]["spec"]["podSpecPatch"] = json.dumps(patch)

    return edited(WORKFLOW, change)


def without_range(root: Path) -> None:
    waiting(lambda c: c.pop("resources"))(root)
    edited(f"{TRAINING}/base/quota.yaml", lambda d: d.pop())(root)


FAULTS = {
    "network of the node": Fault(
        pod(lambda spec: spec.update(hostNetwork=True)),
        SERVING,
        DEPLOYMENT,
        f"{POD}.hostNetwork",
        "is the node's own",
        "take it out",
    ),
    "files of the node": Fault(
        pod(lambda spec: spec["volumes"].append({"name": "root", "hostPath": {"path": "/"}})),
        SERVING,
        DEPLOYMENT,
        f"{POD}.volumes[root].hostPath",
        "no volume of a pod alone",
        "take it out",
    ),
    "right that is added": Fault(
        edit(
            DEPLOYMENT,
            "                - ALL\n",
            "                - ALL\n              add:\n                - NET_ADMIN\n",
        ),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.securityContext.capabilities.add",
        "has NET_ADMIN",
        "take it out",
    ),
    "port of the node": Fault(
        edit(DEPLOYMENT, "containerPort: 8080\n", "containerPort: 8080\n              hostPort: 8080\n"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.ports[http].hostPort",
        "Pod Security restricted refuses the pod",
        "take it out",
    ),
    "namespace of any pod": Fault(
        edit(NAMESPACE, f"    {ENFORCE}\n", ""),
        SERVING,
        NAMESPACE,
        "labels[pod-security.kubernetes.io/enforce]",
        "is missing",
        ENFORCE,
    ),
    "level that there is not": Fault(
        edit(NAMESPACE, ENFORCE, f"{ENFORCE[:-1]}t"),
        SERVING,
        NAMESPACE,
        "labels[pod-security.kubernetes.io/enforce]",
        "is 'restrictet', which is no level",
        "one of: privileged, baseline, restricted",
    ),
    "namespace that admission policies do not look at": Fault(
        edit(f"{TRAINING}/base/namespace.yaml", "    app.kubernetes.io/part-of: fashion-recommender\n", ""),
        f"{PIPELINE} bootstrap",
        f"{TRAINING}/base/namespace.yaml",
        "labels[app.kubernetes.io/part-of]",
        "does not look at this namespace",
        "set app.kubernetes.io/part-of: fashion-recommender",
    ),
    "rights of Argo's container": Fault(
        waiting(lambda c: c.pop("securityContext")),
        PIPELINE,
        WORKFLOW,
        f"{PATCH}.containers[wait].securityContext.allowPrivilegeEscalation",
        "of Argo's container, too",
        "set it to False",
    ),
    "patch of a container that no pod has": Fault(
        waiting(lambda c: c.update(name="weit")),
        PIPELINE,
        WORKFLOW,
        f"{PATCH}.containers",
        "names container 'weit', which no pod has",
        "there are: main, wait",
    ),
    "Argo's container without what the quota counts": Fault(
        without_range,
        PIPELINE,
        WORKFLOW,
        f"{PATCH}.containers[wait].resources.limits.memory",
        "is missing, the quota counts limits.memory",
        "set limits.memory",
    ),
    "patch whose containers are no list": Fault(
        edited(WORKFLOW, lambda d: d[0]["spec"].update(podSpecPatch='{"containers": "wait"}')),
        PIPELINE,
        WORKFLOW,
        f"{PATCH}.containers",
        "is no list of containers",
        "correct the text",
    ),
    "peer that is nobody": Fault(
        edited(f"{INFERENCE}/base/network-policies.yaml", lambda d: d[2]["spec"]["egress"][0].update(to=[{}])),
        SERVING,
        f"{INFERENCE}/base/network-policies.yaml",
        "NetworkPolicy egress to",
        "has an empty peer",
        "name a namespaceSelector",
    ),
    "executor without a token": Fault(
        edited(f"{TRAINING}/base/serviceaccount.yaml", lambda d: d[0].update(automountServiceAccountToken=False)),
        PIPELINE,
        WORKFLOW,
        "spec.serviceAccountName",
        "ml-training-sa has no token in pods",
        "leave out",
    ),
    "role of no account": Fault(
        edit("config/environments/production.yaml", '"123456789012"', '"12345"'),
        PIPELINE,
        f"{TRAINING}/base/serviceaccount.yaml",
        "annotations.eks.amazonaws.com/role-arn",
        "is no ARN of a role",
        "12 digits",
    ),
    "block of addresses that is none": Fault(
        edit(f"{INFERENCE}/base/network-policies.yaml", "cidr: 0.0.0.0/0", "cidr: 0.0.0.0/40"),
        SERVING,
        f"{INFERENCE}/base/network-policies.yaml",
        "NetworkPolicy egress ipBlock",
        "the API server refuses it",
        "correct it",
    ),
    "exception outside its block": Fault(
        edit(f"{INFERENCE}/base/network-policies.yaml", "cidr: 0.0.0.0/0", "cidr: 10.0.0.0/8"),
        SERVING,
        f"{INFERENCE}/base/network-policies.yaml",
        "NetworkPolicy egress ipBlock",
        "169.254.169.254/32 is outside 10.0.0.0/8",
        "correct it",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)
