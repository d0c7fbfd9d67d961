"""Faults of what runs as a pod, each seeded into a copy of the tree."""

from pathlib import Path

import pytest

from pipelines.gitops.rules.pods import check_pods
from pipelines.gitops.tree import Document, Rendered, Tree
from tests.pipelines.gitops.trees import (
    CONTAINER,
    DEPLOYMENT,
    GITOPS,
    INFERENCE,
    PIPELINE,
    SERVING,
    TEMPLATE,
    WORKFLOW,
    Fault,
    assert_found,
    edit,
    edited,
)

LARGER = f"{INFERENCE}/components/larger-nodes"

FAULTS = {
    "priority that nobody defines": Fault(
        edited(DEPLOYMENT, lambda d: d[0]["spec"]["template"]["spec"].update(priorityClassName="urgent")),
        SERVING,
        DEPLOYMENT,
        "Deployment/ml-recommendation-inference.spec.template.spec.priorityClassName",
        "names PriorityClass urgent, which is in no file: no pod is ever made",
        "add a PriorityClass",
    ),
    "priority of a run's pods that nobody defines": Fault(
        edit(WORKFLOW, "  podGC:", "  podPriorityClassName: urgent\n  podGC:"),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[ingest].podPriorityClassName",
        "names PriorityClass urgent",
        "add a PriorityClass",
    ),
    "limit beyond the range of the namespace": Fault(
        edit(f"{INFERENCE}/base/quota.yaml", "memory: 512Mi", "memory: 256Mi"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.resources.limits.memory",
        "320Mi is beyond the LimitRange's 256Mi",
        "quota.yaml",
    ),
    "selector that its own pods do not match": Fault(
        edited(DEPLOYMENT, lambda d: d[0]["spec"]["selector"]["matchLabels"].update(tier="web")),
        SERVING,
        DEPLOYMENT,
        "Deployment/ml-recommendation-inference.spec.selector",
        "wants tier=web",
        "the same labels",
    ),
    "service to a port that no pod has": Fault(
        edit(f"{INFERENCE}/base/service.yaml", "targetPort: http", "targetPort: web"),
        SERVING,
        f"{INFERENCE}/base/service.yaml",
        "spec.ports[http].targetPort",
        "names port web",
        "there are: http, metrics",
    ),
    "policy whose rules do nothing": Fault(
        edited(f"{INFERENCE}/base/network-policies.yaml", lambda d: d[2]["spec"].update(policyTypes=["Ingress"])),
        SERVING,
        f"{INFERENCE}/base/network-policies.yaml",
        "NetworkPolicy/allow-s3.spec.policyTypes",
        "has no Egress",
        "add Egress",
    ),
    "policy for a port that no pod has": Fault(
        edit(f"{INFERENCE}/base/network-policies.yaml", "port: http\n", "port: web\n"),
        SERVING,
        f"{INFERENCE}/base/network-policies.yaml",
        ".spec.ingress",
        "opens port web",
        "there are: http, metrics",
    ),
    "typo in a field of a core kind": Fault(
        edit(DEPLOYMENT, "imagePullPolicy:", "imagePulPolicy:"),
        SERVING,
        DEPLOYMENT,
        CONTAINER,
        "'imagePulPolicy' was unexpected",
        "correct the field",
    ),
    "limit as large as the node": Fault(
        edit("config/environments/production.yaml", "memory: 320Mi", "memory: 1Gi"),
        SERVING,
        DEPLOYMENT,
        "limits.memory",
        "1024 MiB do not fit a t3.micro",
        "POD_OPTIMIZATION.md",
    ),
    "no memory limit": Fault(
        edit("config/environments/production.yaml", "    limits:\n      memory: 320Mi\n", ""),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.resources.limits.memory",
        "is missing",
        "set what was measured",
    ),
    "rollout that waits for a second slot": Fault(
        edit(DEPLOYMENT, "maxSurge: 0", "maxSurge: 1"),
        SERVING,
        DEPLOYMENT,
        "spec.strategy.rollingUpdate",
        "need a second free pod slot",
        "set maxSurge: 0",
    ),
    "budget that blocks every drain": Fault(
        edit(f"{INFERENCE}/base/pod-disruption-budget.yaml", "maxUnavailable: 1", "minAvailable: 1"),
        SERVING,
        f"{INFERENCE}/base/pod-disruption-budget.yaml",
        ".spec",
        "a node can never be drained",
        "maxUnavailable: 1",
    ),
    "probe on a port that is not open": Fault(
        edit(DEPLOYMENT, "            - name: http\n", "            - name: web\n"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.readinessProbe",
        "asks port http",
        "web",
    ),
    "root user": Fault(
        edit(DEPLOYMENT, "runAsUser: 10001", "runAsUser: 0"),
        SERVING,
        DEPLOYMENT,
        "securityContext.runAsUser",
        "other than root",
        "10001",
    ),
    "writable root": Fault(
        edit(DEPLOYMENT, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.securityContext.readOnlyRootFilesystem",
        "wants True",
        "set it to True",
    ),
    "ConfigMap that does not exist": Fault(
        edit(DEPLOYMENT, "name: ml-inference-config", "name: ml-inference-settings"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.envFrom[0]",
        "names ConfigMap ml-inference-settings",
        "there are: ml-inference-config",
    ),
    "service that selects nothing": Fault(
        edited(f"{INFERENCE}/base/service.yaml", lambda d: d[0]["spec"].update(selector={"app": "inference"})),
        SERVING,
        f"{INFERENCE}/base/service.yaml",
        "spec.selector",
        "selects no pod",
        "labels",
    ),
    "policy that forgets DNS": Fault(
        edit(f"{INFERENCE}/base/network-policies.yaml", "port: 53", "port: 54"),
        SERVING,
        f"{INFERENCE}/base/network-policies.yaml",
        "NetworkPolicy/default-deny.spec.egress",
        "nothing opens 53/UDP: no DNS",
        "opens 53/UDP",
    ),
    "policy that forgets S3": Fault(
        edit(f"{INFERENCE}/base/network-policies.yaml", "port: 443", "port: 8443"),
        SERVING,
        f"{INFERENCE}/base/network-policies.yaml",
        "NetworkPolicy/default-deny.spec.egress",
        "nothing opens 443/TCP",
        "opens 443/TCP",
    ),
    "policy that opens the node's role": Fault(
        edit(f"{INFERENCE}/base/network-policies.yaml", "169.254.169.254/32", "10.0.0.0/8"),
        SERVING,
        f"{INFERENCE}/base/network-policies.yaml",
        "NetworkPolicy egress",
        "opens the instance metadata service",
        "except 169.254.169.254/32",
    ),
    "quantity that is none": Fault(
        edit("config/environments/production.yaml", "memory: 320Mi", "memory: 320MiB"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.resources",
        "'320MiB' is no quantity of memory",
        "320Mi",
    ),
    "service without a readiness probe": Fault(
        edited(DEPLOYMENT, lambda d: d[0]["spec"]["template"]["spec"]["containers"][0].pop("readinessProbe")),
        SERVING,
        DEPLOYMENT,
        "containers.readinessProbe",
        "has none, and Service/ml-recommendation-inference sends it requests",
        "when it can answer",
    ),
    "secret for pulling that does not exist": Fault(
        edited(DEPLOYMENT, lambda d: d[0]["spec"]["template"]["spec"].update(imagePullSecrets=[{"name": "ecr"}])),
        SERVING,
        DEPLOYMENT,
        "spec.imagePullSecrets",
        "names Secret ecr",
        "there are: none",
    ),
    "policy that lets anybody in": Fault(
        edited(f"{INFERENCE}/base/network-policies.yaml", lambda d: d[3]["spec"]["ingress"][0].pop("from")),
        SERVING,
        f"{INFERENCE}/base/network-policies.yaml",
        "NetworkPolicy/allow-api.spec.ingress",
        "anybody may come in",
        "name who may",
    ),
    "files that fill the memory": Fault(
        edit(DEPLOYMENT, "sizeLimit: 1Gi", "sizeLimit: 1Gi\n            medium: Memory"),
        SERVING,
        DEPLOYMENT,
        "volumes[models]",
        "may take 1Gi of the pod's 320 MiB",
        "leave out medium",
    ),
    "budget with two rules": Fault(
        edit(
            f"{INFERENCE}/base/pod-disruption-budget.yaml", "maxUnavailable: 1", "maxUnavailable: 1\n  minAvailable: 0"
        ),
        SERVING,
        f"{INFERENCE}/base/pod-disruption-budget.yaml",
        ".spec",
        "has minAvailable and maxUnavailable",
        "keep maxUnavailable",
    ),
    "autoscaler beside a number of replicas": Fault(
        edit(f"{LARGER}/deployment.yaml", "  replicas: null\n", ""),
        LARGER,
        f"{LARGER}/kustomization.yaml",
        "spec.replicas",
        "is the autoscaler's to set",
        "replicas: null",
    ),
    "autoscaler from more to less": Fault(
        edit(f"{LARGER}/horizontal-pod-autoscaler.yaml", "minReplicas: 2", "minReplicas: 9"),
        LARGER,
        f"{LARGER}/kustomization.yaml",
        "spec.minReplicas",
        "is 9, and maxReplicas 6",
        "at most maxReplicas",
    ),
    "version of a kind that Kubernetes has not got": Fault(
        edit(f"{LARGER}/horizontal-pod-autoscaler.yaml", "autoscaling/v2", "autoscaling/v2beta2"),
        LARGER,
        f"{LARGER}/kustomization.yaml",
        "HorizontalPodAutoscaler/ml-recommendation-inference.apiVersion",
        "has no HorizontalPodAutoscaler of autoscaling/v2beta2",
        "the kind and version",
    ),
    "grace that ends in its pause": Fault(
        edit(DEPLOYMENT, "terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 4"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.lifecycle.preStop",
        "sleeps 5 s of terminationGracePeriodSeconds 4",
        "raise",
    ),
    "spread that counts other pods": Fault(
        edit(
            DEPLOYMENT,
            "              app.kubernetes.io/name: ml-recommendation-",
            "              app.kubernetes.io/name: ",
        ),
        SERVING,
        DEPLOYMENT,
        "topologySpreadConstraints[0].labelSelector",
        "which these pods do not have: nothing is spread",
        "the labels of spec.template",
    ),
    "claim that does not exist": Fault(
        edit(
            DEPLOYMENT,
            "emptyDir:\n            sizeLimit: 16Mi",
            "persistentVolumeClaim:\n            claimName: models",
        ),
        SERVING,
        DEPLOYMENT,
        "volumes[tmp]",
        "names PersistentVolumeClaim models",
        "there are: none",
    ),
    "limit below the request": Fault(
        edit("config/environments/production.yaml", "memory: 320Mi", "memory: 128Mi"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.resources.limits.memory",
        "128Mi is less than the request 192Mi",
        "at least the request",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)


@pytest.mark.parametrize("name", ["system-cluster-critical", "ours"])
def test_priority_that_is_there_is_taken(name: str, tmp_path: Path) -> None:
    spec = {"priorityClassName": name, "containers": []}
    pod: Document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}
    ours: Document = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "ours"}}
    found = list(check_pods(Tree(GITOPS), Rendered(tmp_path, {}, [pod, ours])))
    assert not [finding for finding in found if "priority" in finding.field]
