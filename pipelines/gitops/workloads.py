"""Whatever runs as a pod, in one form: Deployments and jobs, and each leaf template of a workflow."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pipelines.gitops.tree import Document, Rendered, kind_of, label

WORKFLOW_KINDS = ("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow")
POD_PATHS = {
    "Pod": (),
    "Deployment": ("template",),
    "StatefulSet": ("template",),
    "DaemonSet": ("template",),
    "Job": ("template",),
    "CronJob": ("jobTemplate", "spec", "template"),
}


@dataclass(frozen=True)
class Workload:
    """One pod's worth: `containers` are (path, container), in the order of the manifest."""

    document: Document
    path: str
    pod: Mapping[str, Any]
    containers: tuple[tuple[str, Mapping[str, Any]], ...]
    volumes: tuple[Mapping[str, Any], ...]
    service_account: str | None
    labels: Mapping[str, str]

    @property
    def is_workflow(self) -> bool:
        return kind_of(self.document) in WORKFLOW_KINDS


def workloads_in(rendered: Rendered) -> list[Workload]:
    return [workload for document in rendered.documents for workload in _workloads(document)]


def workflow_spec(document: Document) -> tuple[str, Mapping[str, Any]]:
    """Give where a workflow kind holds its workflow, and that."""
    spec = document.get("spec", {})
    if kind_of(document) == "CronWorkflow":
        return f"{label(document)}.spec.workflowSpec", spec.get("workflowSpec", {})
    return f"{label(document)}.spec", spec


def awaited(task: Mapping[str, Any]) -> set[str]:
    """Give the names of the tasks that a task waits for, by `depends` or `dependencies`."""
    mentioned = set(re.findall(r"(?<![.\w-])[A-Za-z][\w-]*", re.sub(r"\.\w+", "", task.get("depends", ""))))
    return mentioned | set(task.get("dependencies", []))


def read_patch(text: str) -> Mapping[str, Any] | None:
    """Read a podSpecPatch, whatever a run will put into it; None when it is no mapping."""
    try:
        patch = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "0", text, flags=re.DOTALL))
    except yaml.YAMLError:
        return None
    return patch if isinstance(patch, dict) else None


def executor_containers(workload: Workload) -> list[tuple[str, Mapping[str, Any]]]:
    """Give Argo's own containers, `init` and `wait`, as podSpecPatch of the workflow and of the step leave them."""
    if not workload.is_workflow:
        return []
    path, spec = workflow_spec(workload.document)
    given = [(path, str(spec.get("podSpecPatch", "{}")))]
    if workload.pod.get("podSpecPatch") != spec.get("podSpecPatch"):
        given.append((workload.path, str(workload.pod["podSpecPatch"])))
    found: list[tuple[str, Mapping[str, Any]]] = []
    for key, name in (("initContainers", "init"), ("containers", "wait")):
        merged: Mapping[str, Any] = {"name": name}
        for _, text in given:
            listed = (read_patch(text) or {}).get(key)
            for container in listed if isinstance(listed, list) else []:
                if isinstance(container, dict) and container.get("name") == name:
                    merged = {**merged, **container}
        found.append((f"{given[-1][0]}.podSpecPatch.{key}[{name}]", merged))
    return found


def _workloads(document: Document) -> Iterator[Workload]:
    kind = kind_of(document)
    if kind in WORKFLOW_KINDS:
        path, spec = workflow_spec(document)
        for template in spec.get("templates", []):
            if containers := tuple(_template_containers(f"{path}.templates[{template.get('name')}]", template)):
                yield Workload(
                    document,
                    f"{path}.templates[{template.get('name')}]",
                    dict(spec) | dict(template),
                    containers,
                    (*spec.get("volumes", []), *template.get("volumes", []), *_claims(spec)),
                    template.get("serviceAccountName") or spec.get("serviceAccountName"),
                    (spec.get("podMetadata") or {}).get("labels", {}),
                )
    elif kind in POD_PATHS:
        pod, path = document, label(document)
        holder: Mapping[str, Any] = document.get("spec", {})
        for part in POD_PATHS[kind]:
            holder, path = holder.get(part, {}), f"{path}.spec.{part}" if part != "spec" else path
        pod_holder = holder if POD_PATHS[kind] else document
        pod = dict(pod_holder.get("spec", {}))
        path = f"{path}.spec"
        keys = ("initContainers", "containers")
        containers = tuple((f"{path}.{key}[{c.get('name')}]", c) for key in keys for c in pod.get(key, []))
        yield Workload(
            document,
            path,
            pod,
            containers,
            (*pod.get("volumes", []), *_claims(document.get("spec", {}))),
            pod.get("serviceAccountName"),
            (pod_holder.get("metadata") or {}).get("labels", {}),
        )


def _claims(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [{"name": claim["metadata"]["name"]} for claim in spec.get("volumeClaimTemplates", [])]


def _template_containers(path: str, template: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key in ("container", "script"):
        if key in template:
            yield f"{path}.{key}", template[key]
    for container in (template.get("containerSet") or {}).get("containers", []):
        yield f"{path}.containerSet[{container.get('name')}]", container
    for key in ("initContainers", "sidecars"):
        for container in template.get(key, []):
            yield f"{path}.{key}[{container.get('name')}]", container
