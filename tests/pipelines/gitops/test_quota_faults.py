"""Faults of quotas and ranges, each seeded into a copy of the tree: pods that are never made for want of room."""

from pathlib import Path

import pytest

from pipelines.gitops.rules.quotas import check_quotas
from pipelines.gitops.tree import Document, Rendered, Tree
from tests.pipelines.gitops.trees import (
    CONTAINER,
    DEPLOYMENT,
    GITOPS,
    INFERENCE,
    PIPELINE,
    SERVING,
    TRAINING,
    WORKFLOW,
    Fault,
    assert_found,
    edit,
    edited,
)

QUOTA, RANGE = f"{INFERENCE}/base/quota.yaml", f"{TRAINING}/base/quota.yaml"
LARGER = f"{INFERENCE}/components/larger-nodes"

FAULTS = {
    "quota below one pod": Fault(
        edit(QUOTA, "requests.memory: 1Gi", "requests.memory: 128Mi"),
        SERVING,
        QUOTA,
        "ResourceQuota/ml-inference.spec.hard[requests.memory]",
        "is 128Mi, and 1 of Deployment/ml-recommendation-inference with 1 still ending ask for 384Mi",
        "at least 384Mi",
    ),
    "quota below a rollout": Fault(
        edit(DEPLOYMENT, "maxSurge: 0", "maxSurge: 3"),
        SERVING,
        QUOTA,
        "spec.hard[limits.memory]",
        "1 of Deployment/ml-recommendation-inference with 3 of a rollout and 1 still ending ask for 1600Mi",
        "at least 1600Mi",
    ),
    "quota below the most that the autoscaler starts": Fault(
        edit(f"{LARGER}/quota.yaml", 'pods: "13"', 'pods: "3"'),
        LARGER,
        f"{LARGER}/kustomization.yaml",
        "spec.hard[pods]",
        "is 3, and 6 of Deployment/ml-recommendation-inference with 1 of a rollout and 6 still ending ask for 13",
        "at least 13",
    ),
    # A pod that ends counts until it is gone: at six replicas a rollout came to a halt after two new pods.
    "quota without room for pods that end": Fault(
        edit(f"{LARGER}/quota.yaml", 'pods: "13"', 'pods: "8"'),
        LARGER,
        f"{LARGER}/kustomization.yaml",
        "spec.hard[pods]",
        "is 8, and 6 of Deployment/ml-recommendation-inference with 1 of a rollout and 6 still ending ask for 13",
        "at least 13",
    ),
    # eda 3 Gi beside train 7 Gi, and 256 Mi for Argo's container in each of the two pods
    "quota below eda beside train": Fault(
        edit(RANGE, "limits.memory: 22Gi", "limits.memory: 9Gi"),
        PIPELINE,
        RANGE,
        "ResourceQuota/ml-training.spec.hard[limits.memory]",
        "the widest moment of WorkflowTemplate/ml-training-pipeline, with Argo's containers ask for 10752Mi",
        "at least 10752Mi",
    ),
    # 1500m for train, 500m for eda and 10m for Argo's container in each of the two pods
    "quota below their CPU": Fault(
        edit(RANGE, 'requests.cpu: "8"', "requests.cpu: 2"),
        PIPELINE,
        RANGE,
        "spec.hard[requests.cpu]",
        "ask for 2020m",
        "at least 2020m",
    ),
    "quota that is no number": Fault(
        edit(QUOTA, 'pods: "3"', "pods: few"), SERVING, QUOTA, "spec.hard[pods]", "is 'few'", "write a number"
    ),
    "surge that is no number": Fault(
        edit(DEPLOYMENT, "maxSurge: 0", "maxSurge: 12.5%"),
        SERVING,
        DEPLOYMENT,
        "spec.strategy.rollingUpdate.maxSurge",
        "'12.5%' is no number or percentage",
        "1 or 25%",
    ),
    "quota of nothing": Fault(
        edit(QUOTA, "limits.memory: 1Gi", "limits.mem: 1Gi"),
        SERVING,
        QUOTA,
        "spec.hard[limits.mem]",
        "nothing that a quota counts",
        "limits.memory",
    ),
    "load balancer that the quota forbids": Fault(
        edit(f"{INFERENCE}/base/service.yaml", "type: ClusterIP", "type: LoadBalancer"),
        SERVING,
        QUOTA,
        "spec.hard[services.loadbalancers]",
        "is 0, and ml-recommendation-inference is a LoadBalancer",
        "ClusterIP",
    ),
    "range whose default is beyond its most": Fault(
        edit(QUOTA, "memory: 128Mi", "memory: 1Gi"),
        SERVING,
        QUOTA,
        "LimitRange/ml-inference.spec.limits[0].max.memory",
        "default 1024Mi is beyond max 512Mi",
        "raise max",
    ),
    "range whose least is beyond Argo's container": Fault(
        edited(RANGE, lambda d: d[1]["spec"]["limits"][0].update(min={"memory": "96Mi"}, defaultRequest={"cpu": "1m"})),
        PIPELINE,
        WORKFLOW,
        "podSpecPatch.containers[wait].resources.requests.memory",
        "64Mi is below the LimitRange's 96Mi",
        "quota.yaml",
    ),
    "CPU that is no quantity": Fault(
        edit("config/environments/production.yaml", "cpu: 100m", "cpu: 100mm"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.resources",
        "'100mm' is no quantity of cpu",
        "250m",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)


def _pod(name: str, memory: str) -> Document:
    return {"name": name, "container": {"resources": {"requests": {"memory": memory}}}}


@pytest.mark.parametrize(
    ("depends", "mebibytes"),
    [
        ({"b": "a", "c": "a", "d": "b && c"}, 5 * 64 + 2 * 64),  # b beside c: 2 + 3
        ({"b": "a", "c": "b", "d": "c"}, 4 * 64 + 64),  # one after the other: d alone
        ({"b": "", "c": "", "d": ""}, 10 * 64 + 4 * 64),  # all at once: 1 + 2 + 3 + 4
    ],
)
def test_widest_moment_is_that_of_the_graph(depends: dict[str, str], mebibytes: int) -> None:
    """Tasks a to d ask for 1 to 4 times 64 MiB, and Argo's container beside each for 64 MiB."""
    patch = '{"containers": [{"name": "wait", "resources": {"requests": {"memory": "64Mi"}}}]}'
    tasks = [{"name": name, "template": name, "depends": depends.get(name, "")} for name in "abcd"]
    templates = [_pod(name, f"{64 * (number + 1)}Mi") for number, name in enumerate("abcd")]
    workflow: Document = {
        "kind": "WorkflowTemplate",
        "metadata": {"name": "graph"},
        "spec": {
            "entrypoint": "main",
            "podSpecPatch": patch,
            "templates": [{"name": "main", "dag": {"tasks": tasks}}, *templates],
        },
    }
    for hard, n_findings in ((f"{mebibytes}Mi", 0), (f"{mebibytes - 1}Mi", 1)):
        quota: Document = {
            "kind": "ResourceQuota",
            "metadata": {"name": "q"},
            "spec": {"hard": {"requests.memory": hard}},
        }
        rendered = Rendered(GITOPS, {}, [workflow, quota])
        assert len(list(check_quotas(Tree(GITOPS), rendered))) == n_findings, hard
