"""Can a Deployment roll out, scale and be drained, on the node that it is for?"""

import re
from collections.abc import Iterator

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.pods import SERVING
from pipelines.gitops.tree import Document, Rendered, Tree, label, name_of
from pipelines.gitops.workloads import Workload, workloads_in

T3_MICRO_FREE_SLOTS = 1


def check_scaling(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check the Deployments of one rendered overlay, with their budgets and autoscalers."""
    workloads = {name_of(w.document): w for w in workloads_in(rendered) if w.document["kind"] == "Deployment"}
    scaled = {str(h["spec"]["scaleTargetRef"]["name"]) for h in rendered.of_kind("HorizontalPodAutoscaler")}
    for name, workload in workloads.items():
        file = tree.shown(rendered.file_of(workload.document))
        yield from _strategy(file, workload.document)
        if name in scaled:
            yield from _scaled(file, workload.document)
        else:
            yield from _rollout(file, workload.document)
        yield from _budgets(tree, rendered, workload)
        yield from _grace(file, workload)
    for scaler in rendered.of_kind("HorizontalPodAutoscaler"):
        least, most = scaler["spec"].get("minReplicas", 1), scaler["spec"]["maxReplicas"]
        if least > most:
            file, what = tree.shown(rendered.file_of(scaler)), f"is {least}, and maxReplicas {most}"
            mend = "minReplicas is at most maxReplicas"
            yield Finding(file, f"{label(scaler)}.spec.minReplicas", f"{what}: the API server refuses it", mend)


def _strategy(file: str, document: Document) -> Iterator[Finding]:
    for field, value in ((document["spec"].get("strategy") or {}).get("rollingUpdate") or {}).items():
        if not re.fullmatch(r"\d+%?", str(value)):
            where = f"{label(document)}.spec.strategy.rollingUpdate.{field}"
            yield Finding(file, where, f"{value!r} is no number or percentage", "write 1 or 25%")


def _scaled(file: str, document: Document) -> Iterator[Finding]:
    if "replicas" in document["spec"]:
        what = "is the autoscaler's to set: Argo CD puts this number back as soon as it changes"
        yield Finding(file, f"{label(document)}.spec.replicas", what, "take it out: replicas: null in the component")


def _rollout(file: str, document: Document) -> Iterator[Finding]:
    """Find a rollout that would wait for ever."""
    spec = document["spec"]
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    if SERVING in name_of(document) and spec.get("replicas", 1) == T3_MICRO_FREE_SLOTS:
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
        file, where = tree.shown(rendered.file_of(budget)), f"{label(budget)}.spec"
        wanted = (budget["spec"].get("selector") or {}).get("matchLabels", {})
        covers = bool(wanted) and all(workload.labels.get(key) == value for key, value in wanted.items())
        if covers and _blocks_drain(budget, replicas):
            what = f"lets no pod of {replicas} go, so a node can never be drained"
            yield Finding(file, where, what, "set maxUnavailable: 1")
        if {"minAvailable", "maxUnavailable"} <= set(budget["spec"]):
            what = "has minAvailable and maxUnavailable: the API server refuses it"
            yield Finding(file, where, what, "keep maxUnavailable")


def _blocks_drain(budget: Document, replicas: int) -> bool:
    spec = budget["spec"]
    return spec.get("minAvailable") in (replicas, f"{replicas}", "100%") or spec.get("maxUnavailable") in (0, "0", "0%")


def _grace(file: str, workload: Workload) -> Iterator[Finding]:
    """Check that a preStop sleep ends before the kubelet kills."""
    grace = workload.pod.get("terminationGracePeriodSeconds", 30)
    for path, container in workload.containers:
        pause = (((container.get("lifecycle") or {}).get("preStop") or {}).get("sleep") or {}).get("seconds", 0)
        if pause >= grace:
            what = f"sleeps {pause} s of terminationGracePeriodSeconds {grace}: nothing is left to drain in"
            yield Finding(file, f"{path}.lifecycle.preStop", what, "raise terminationGracePeriodSeconds")
